"""Attention over packed groups: a prompt attends to itself, each response to the prompt and to itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from pad_student.model import fused_attention
from pad_student.model.packing import Group, Packed

NAME = "shared_prompt"


@contextmanager
def shared_attention(causal_lm: Any) -> Iterator[None]:
    """Within this, the model takes packed groups. What is recomputed for a gradient must be within it, too."""
    before = causal_lm.config._attn_implementation
    causal_lm.set_attn_implementation(NAME)
    try:
        yield
    finally:
        causal_lm.set_attn_implementation(before)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Packed,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for each layer: query ``[1, H, T, d]``, key and value ``[1, G, T, d]``.

    Returns:
        ``[1, T, H, d]``, and no attention weights.

    Raises:
        ValueError: where the model adds something to its attention scores.
    """
    if attention_mask is not None or query.shape[0] != 1 or "position_bias" in others:
        raise ValueError("the model adds something to its attention scores")
    packed.windows.append(sliding_window)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if sliding_window is not None and packed.longest <= sliding_window:
        sliding_window = None
    plain = not (dropout or sliding_window or softcap) and s_aux is None
    if plain and fused_attention.usable(query, key, value):
        return fused_attention.attend(query, key, value, packed.groups, scale), None
    repeats = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(repeats, 1) for part in (key, value))

    def attend(queries: slice, prompt: slice) -> Tensor:
        own = slice(queries.start, queries.stop)
        places = [prompt] if queries == prompt else [prompt, own]
        keys, values = (torch.cat([part[:, :, at] for at in places], 2) for part in (key, value))
        positions = torch.cat([packed.positions_T[at] for at in places])
        distance = packed.positions_T[queries, None] - positions
        mask = (distance >= 0) & (distance < (sliding_window or packed.longest))
        if softcap or s_aux is not None:
            return _by_scores(query[:, :, queries], keys, values, mask, scale, softcap, s_aux, dropout)
        return scaled_dot_product_attention(
            query[:, :, queries], keys, values, attn_mask=mask, dropout_p=dropout, scale=scale
        )

    outputs = [attend(queries, group.prompt) for group in packed.groups for queries in _queries(group)]
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _queries(group: Group) -> list[slice]:
    """The group's tokens in the order they stand in; a response of one token has none to read."""
    return [group.prompt, *(response for response in group.responses if response.start < response.stop)]


def _by_scores(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    dropout: float,
) -> Tensor:
    """Where scores are capped, or a head has a sink: a key of its own, with no value."""
    scores = (query @ key.mT) * scale
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(scores).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    weights = scores.softmax(-1)[..., : key.shape[2]]
    return drop(weights, dropout).to(value.dtype) @ value


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
