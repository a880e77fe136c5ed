"""Tree attention on GPUs with 16-bit weights: one variable-length flash kernel a level of the tree."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.varlen import AuxRequest, varlen_attn

from pad_teacher.engines.embedded.merge_attention import merge
from pad_teacher.engines.embedded.prefix_tree import PrefixTree


def usable(query: Tensor, value: Tensor) -> bool:
    """Whether the flash kernel takes these tensors: 16 bits, at most 256 a head, Ampere or later."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def attend(
    query_H_T_d: Tensor, key_G_T_d: Tensor, value_G_T_d: Tensor, tree: PrefixTree, scale: float
) -> tuple[Tensor, Tensor]:
    """Output ``[T, H, d]`` and log-sum-exp ``[T, H]``: every node causally, then each level's descendants to it."""
    query, key, value = (part.transpose(0, 1).contiguous() for part in (query_H_T_d, key_G_T_d, value_G_T_d))
    own = [(node.start, node.stop) for node in tree.nodes]
    output, total = _varlen(query, key, value, own, own, scale, causal=True)
    for depth in range(max(node.depth for node in tree.nodes)):
        level = [node for node in tree.nodes if node.depth == depth and node.below > node.stop]
        behind, nodes = [(node.stop, node.below) for node in level], [(node.start, node.stop) for node in level]
        rows, columns = (_places(spans, query.device) for spans in (behind, nodes))
        more, more_total = _varlen(query[rows], key[columns], value[columns], behind, nodes, scale, causal=False)
        here, here_total = output[rows], total[rows]
        merge(here, here_total, more, more_total)
        output[rows], total[rows] = here, here_total
    return output, total


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: list[tuple[int, int]],
    columns: list[tuple[int, int]],
    scale: float,
    *,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    (ends_of_rows, longest_row), (ends_of_columns, longest_column) = (
        _ends(spans, query.device) for spans in (rows, columns)
    )
    output, total = varlen_attn(
        query,
        key,
        value,
        ends_of_rows,
        ends_of_columns,
        longest_row,
        longest_column,
        return_aux=AuxRequest(lse=True),
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=True,
    )
    return output, total.T.contiguous()  # the kernel gives [H, T]


def _ends(spans: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, int]:
    lengths = [stop - start for start, stop in spans]
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device), max(lengths)


def _places(spans: list[tuple[int, int]], device: torch.device) -> Tensor:
    return torch.as_tensor(np.concatenate([np.arange(*span) for span in spans]), device=device)
