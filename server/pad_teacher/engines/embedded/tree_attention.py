"""Attention over a prefix tree: causal inside each node, dense from all its descendants to it, merged exactly.

No mask is needed and nothing is repeated, whichever decoder transformers loads.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from pad_teacher.engines.embedded import varlen_attention
from pad_teacher.engines.embedded.merge_attention import merge
from pad_teacher.engines.embedded.prefix_tree import Node, PrefixTree

NAME = "prefix_tree"
NOWHERE = -1e30  # log-sum-exp over no keys; finite, so that two of them merge to zeros and not to NaN
SCORES, QUERIES = 2**22, 512  # attention scores, and rows of them, held at once where no fused kernel applies


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree: PrefixTree,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for each layer: query ``[1, H, T, d]``, key and value ``[1, G, T, d]``.

    Returns:
        ``[1, T, H, d]``, and no attention weights.

    Raises:
        ValueError: where the model asks for something that a tree cannot do.
    """
    heads, groups = query.shape[1], key.shape[1]
    if attention_mask is not None or query.shape[0] != 1 or "position_bias" in _:
        raise ValueError("the model adds something to its attention scores")
    tree.windows.append(sliding_window)
    # Heads that share keys are a batch of their own: the keys are repeated by a stride of zero, not copied.
    query_G_H_T_d = query[0].unflatten(0, (groups, heads // groups))
    key_G_H_T_d, value_G_H_T_d = (part[0, :, None].expand(-1, heads // groups, -1, -1) for part in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kernel = _Kernel(query_G_H_T_d, key_G_H_T_d, value_G_H_T_d, tree, scale, sliding_window, softcap)
    if varlen_attention.usable(query, value) and not kernel.bent:
        output_T_H_d, total_T_H = varlen_attention.attend(query[0], key[0], value[0], tree, scale)
    else:
        output_T_H_d, total_T_H = kernel.attend()
    if s_aux is not None:  # a sink: a key of its own, with no value
        output_T_H_d = output_T_H_d * torch.sigmoid(total_T_H - s_aux.float())[..., None].to(query.dtype)
    return output_T_H_d[None], None


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


class _Kernel:
    """One layer's attention, a node at a time: a fused kernel where one applies, else scores in chunks."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tree: PrefixTree,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> None:
        self.query, self.key, self.value, self.tree = query, key, value, tree
        self.scale, self.softcap, self.window = scale, softcap, window or 2**62
        # Whether some score is capped, some key out of a query's window, or values are of another size than keys.
        self.uneven = bool(softcap) or value.shape[-1] != key.shape[-1]
        self.bent = self.uneven or any(node.deepest - node.position >= self.window for node in tree.nodes)
        self.positions_T = torch.as_tensor(tree.positions_T if self.bent else [], device=query.device)

    def attend(self) -> tuple[Tensor, Tensor]:
        """Output ``[T, H, d]`` and log-sum-exp ``[T, H]`` over the whole tree."""
        groups, heads, length, _ = self.query.shape
        output = self.query.new_empty(length, groups, heads, self.value.shape[-1])
        total = self.query.new_empty(length, groups, heads, dtype=torch.float32)
        output_G_H_T_d, total_G_H_T = output.permute(1, 2, 0, 3), total.permute(1, 2, 0)
        for node in self.tree.nodes:
            for start, stop in ((node.start, node.stop), (node.stop, node.below)):
                if start == stop:
                    continue
                here, here_total = output_G_H_T_d[:, :, start:stop], total_G_H_T[:, :, start:stop]
                more, more_total = self._to_node(node, start, stop)
                # The root is the first that its own tokens and all below it attend to.
                if node.depth:
                    merge(here, here_total, more, more_total)
                else:
                    here.copy_(more)
                    here_total.copy_(more_total)
        return output.flatten(1, 2), total.flatten(1, 2)

    def _to_node(self, node: Node, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Attention of tokens [start, stop), the node's own or all its descendants, to the node's."""
        query = self.query[:, :, start:stop]
        key, value = (part[:, :, node.start : node.stop] for part in (self.key, self.value))
        inside = start == node.start
        last = node.position + node.stop - node.start - 1 if inside else node.deepest
        if self.uneven or last - node.position >= self.window:
            return self._by_scores(node, start, stop)
        if not query.is_cuda:
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return fused(query, key, value, 0.0, inside, scale=self.scale)
        fused = torch.ops.aten._scaled_dot_product_efficient_attention
        output, total, *_ = fused(query, key, value, None, True, 0.0, inside, scale=self.scale)
        return output, total[..., : stop - start]  # it rounds the length up

    def _by_scores(self, node: Node, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The same where scores are capped or keys out of the window, holding ``SCORES`` scores at a time."""
        groups, heads, _, _ = self.query.shape
        rows = max(1, min(QUERIES, SCORES // (groups * heads * (node.stop - node.start))))
        parts = [self._part(node, first, min(first + rows, stop)) for first in range(start, stop, rows)]
        outputs, totals = zip(*parts, strict=True)
        return torch.cat(outputs, 2), torch.cat(totals, 2)

    def _part(self, node: Node, start: int, stop: int) -> tuple[Tensor, Tensor]:
        positions = self.positions_T[start:stop]
        # Keys that no query of this part sees need no score.
        low, high = int(positions.min()) - self.window + 1, int(positions.max()) + 1
        first = node.start + min(max(0, low - node.position), node.stop - node.start)
        last = min(node.stop, node.start + high - node.position)
        scores = self.query[:, :, start:stop].float() @ self.key[:, :, first:last].float().mT
        scores *= self.scale
        if self.softcap:
            scores = scores.div_(self.softcap).tanh_().mul_(self.softcap)
        distance = positions[:, None] - self.positions_T[first:last]
        scores.masked_fill_((distance < 0) | (distance >= self.window), -torch.inf)
        total = scores.logsumexp(-1).clamp(min=NOWHERE)
        weights = scores.sub_(total[..., None]).exp_().to(self.value.dtype)
        return weights @ self.value[:, :, first:last], total


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
