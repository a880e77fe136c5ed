"""Attention over a prefix tree: causal inside each node, dense from all its descendants to it, merged exactly.

It needs no mask and repeats no token, in any decoder that calls attention through transformers' interface.
"""

from typing import Any

import torch
from torch import Tensor

from pad_teacher.engines.embedded import varlen_attention
from pad_teacher.engines.embedded.prefix_tree import Node, PrefixTree
from pad_torch.attention import AttentionCall, register_attention
from pad_torch.merge_attention import merge_attention

NAME = "prefix_tree"
NO_KEYS = -1e30  # the log-sum-exp over no keys: finite, so that two of them merge to zeros and not to NaN
SCORES, QUERIES = 2**22, 512  # attention scores, and rows of them, held at once if no fused kernel applies


def attend(call: AttentionCall, tree: PrefixTree) -> Tensor:
    """Output ``[T, H, d]`` of one layer's attention over the packed sequence."""
    over_tree = _TreeAttention(call, tree)
    if varlen_attention.usable(call.query_H_T_d, call.value_G_T_d) and not over_tree.needs_scores:
        output_T_H_d, total_T_H = varlen_attention.attend(call, tree)
    else:
        output_T_H_d, total_T_H = over_tree.run()
    if call.sinks_H is None:
        return output_T_H_d
    return output_T_H_d * torch.sigmoid(total_T_H - call.sinks_H.float())[..., None].to(output_T_H_d.dtype)


def bytes_of_scores(config: Any, tokens: int, longest: int, itemsize: int) -> int:
    """Memory of an attention layer that holds scores, over ``tokens`` in rows of at most ``longest``; else 0."""
    config = config.get_text_config()
    heads, capped = config.num_attention_heads, getattr(config, "attn_logit_softcapping", None)
    window = getattr(config, "sliding_window", None) or longest
    if not capped and longest <= window:
        return 0
    keys = longest if capped else min(longest, window + QUERIES)
    scores = min(SCORES, heads * min(longest, QUERIES) * keys)
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    # The residual and its norm; queries, keys, values and outputs.
    per_token = 2 * config.hidden_size + 2 * head * (heads + (getattr(config, "num_key_value_heads", None) or heads))
    return tokens * per_token * itemsize + 2 * 4 * scores  # the scores, and their exponentials


class _TreeAttention:
    """One layer's attention, a node at a time: by a fused kernel if one applies, else by scores in chunks."""

    def __init__(self, call: AttentionCall, tree: PrefixTree) -> None:
        # Heads that share keys are a batch of their own.
        self.query_G_H_T_d, self.key_G_H_T_d, self.value_G_H_T_d = call.by_key_head()
        self.tree, self.scale, self.softcap, self.window = tree, call.scale, call.softcap, call.window or 2**62
        # No fused kernel caps scores or takes values of another size than keys.
        self.unfusable = bool(call.softcap) or not call.has_even_heads
        self.needs_scores = self.unfusable or any(self._is_cut(node, node.deepest) for node in tree.nodes)
        self.positions_T = torch.as_tensor(
            tree.positions_T if self.needs_scores else [], device=call.query_H_T_d.device
        )

    def run(self) -> tuple[Tensor, Tensor]:
        """Output ``[T, H, d]`` and log-sum-exp ``[T, H]`` over the whole tree."""
        groups, heads, length, _ = self.query_G_H_T_d.shape
        output = self.query_G_H_T_d.new_empty(length, groups, heads, self.value_G_H_T_d.shape[-1])
        total = output.new_empty(length, groups, heads, dtype=torch.float32)
        output_G_H_T_d, total_G_H_T = output.permute(1, 2, 0, 3), total.permute(1, 2, 0)
        for node in self.tree.nodes:
            for start, stop in ((node.start, node.stop), (node.stop, node.below)):
                if start == stop:
                    continue
                here, here_total = output_G_H_T_d[:, :, start:stop], total_G_H_T[:, :, start:stop]
                more, more_total = self._to_node(node, start, stop)
                # The root is the first that its own tokens and all below it attend to.
                if node.depth:
                    merge_attention(here, here_total, more, more_total)
                else:
                    here.copy_(more)
                    here_total.copy_(more_total)
        return output.flatten(1, 2), total.flatten(1, 2)

    def _is_cut(self, node: Node, last: int) -> bool:
        """Whether some key of ``node`` is out of the window of a query at position ``last``."""
        return last - node.position >= self.window

    def _to_node(self, node: Node, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Attention of tokens [start, stop), the node's own or all its descendants, to the node's."""
        inside = start == node.start
        last = node.position + node.stop - node.start - 1 if inside else node.deepest
        if self.unfusable or self._is_cut(node, last):
            return self._by_scores(node, start, stop)
        query = self.query_G_H_T_d[:, :, start:stop]
        key, value = (part[:, :, node.start : node.stop] for part in (self.key_G_H_T_d, self.value_G_H_T_d))
        if not query.is_cuda:
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return fused(query, key, value, 0.0, inside, scale=self.scale)
        fused = torch.ops.aten._scaled_dot_product_efficient_attention
        output, total, *_ = fused(query, key, value, None, True, 0.0, inside, scale=self.scale)
        return output, total[..., : stop - start]  # it rounds the length up

    def _by_scores(self, node: Node, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The same without a fused kernel: it holds at most ``SCORES`` attention scores at a time."""
        groups, heads, _, _ = self.query_G_H_T_d.shape
        rows = max(1, min(QUERIES, SCORES // (groups * heads * (node.stop - node.start))))
        chunks = [self._chunk(node, first, min(first + rows, stop)) for first in range(start, stop, rows)]
        outputs, totals = zip(*chunks, strict=True)
        return torch.cat(outputs, 2), torch.cat(totals, 2)

    def _chunk(self, node: Node, start: int, stop: int) -> tuple[Tensor, Tensor]:
        positions = self.positions_T[start:stop]
        # Keys that no query of this chunk sees need no score.
        low, high = int(positions.min()) - self.window + 1, int(positions.max()) + 1
        first = node.start + min(max(0, low - node.position), node.stop - node.start)
        last = min(node.stop, node.start + high - node.position)
        scores = self.query_G_H_T_d[:, :, start:stop].float() @ self.key_G_H_T_d[:, :, first:last].float().mT
        scores *= self.scale
        if self.softcap:
            scores = scores.div_(self.softcap).tanh_().mul_(self.softcap)
        distance = positions[:, None] - self.positions_T[first:last]
        scores.masked_fill_((distance < 0) | (distance >= self.window), -torch.inf)
        total = scores.logsumexp(-1).clamp(min=NO_KEYS)
        weights = scores.sub_(total[..., None]).exp_().to(self.value_G_H_T_d.dtype)
        return weights @ self.value_G_H_T_d[:, :, first:last], total


register_attention(NAME, "tree", attend)
