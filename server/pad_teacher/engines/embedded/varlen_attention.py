"""Tree attention on GPUs with 16-bit weights: one variable-length flash kernel for each level of the tree."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.varlen import AuxRequest, varlen_attn

from pad_teacher.engines.embedded.prefix_tree import PrefixTree
from pad_torch.attention import AttentionCall
from pad_torch.merge_attention import merge_attention


def usable(query: Tensor, value: Tensor) -> bool:
    """Whether the flash kernel takes these tensors: 16 bits, at most 256 a head, Ampere or later."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def attend(call: AttentionCall, tree: PrefixTree) -> tuple[Tensor, Tensor]:
    """Output ``[T, H, d]`` and log-sum-exp ``[T, H]``: every node causally, then each level's descendants to it."""
    query_T_H_d, key_T_G_d, value_T_G_d = (
        part.transpose(0, 1).contiguous() for part in (call.query_H_T_d, call.key_G_T_d, call.value_G_T_d)
    )
    own = _Spans([(node.start, node.stop) for node in tree.nodes], query_T_H_d.device)
    output, total = _varlen((query_T_H_d, key_T_G_d, value_T_G_d), own, own, call.scale, causal=True)
    for depth in range(max(node.depth for node in tree.nodes)):
        level = [node for node in tree.nodes if node.depth == depth and node.below > node.stop]
        below = _Spans([(node.stop, node.below) for node in level], query_T_H_d.device)
        nodes = _Spans([(node.start, node.stop) for node in level], query_T_H_d.device)
        taken = query_T_H_d[below.places], key_T_G_d[nodes.places], value_T_G_d[nodes.places]
        more, more_total = _varlen(taken, below, nodes, call.scale, causal=False)
        here, here_total = output[below.places], total[below.places]
        merge_attention(here, here_total, more, more_total)
        output[below.places], total[below.places] = here, here_total
    return output, total


@dataclass(frozen=True)
class _Spans:
    """Stretches [start, stop) of the packed sequence, as the kernel and as indexing name them."""

    bounds: list[tuple[int, int]]
    device: torch.device

    @cached_property
    def ends(self) -> Tensor:
        """Int32 [stretches + 1]: each one's end when they stand one after the other, after a 0."""
        lengths = [stop - start for start, stop in self.bounds]
        return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=self.device)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(stop - start for start, stop in self.bounds)

    @cached_property
    def places(self) -> Tensor:
        """Indices of all their tokens."""
        return torch.as_tensor(np.concatenate([np.arange(*span) for span in self.bounds]), device=self.device)


def _varlen(
    parts: tuple[Tensor, Tensor, Tensor], queries: _Spans, keys: _Spans, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    output, total = varlen_attn(
        *parts,
        queries.ends,
        keys.ends,
        queries.longest,
        keys.longest,
        return_aux=AuxRequest(lse=True),
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=True,
    )
    return output, total.T.contiguous()  # the kernel gives [H, T]
