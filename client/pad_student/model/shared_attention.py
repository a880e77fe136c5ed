"""Attention over packed groups: a prompt attends to itself, each response to the prompt and to itself."""

import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention

from pad_student.model import fused_attention
from pad_student.model.packing import Group, Packed
from pad_torch.attention import AttentionCall, register_attention

NAME = "shared_prompt"


def attend(call: AttentionCall, packed: Packed) -> Tensor:
    """Output ``[T, H, d]`` of one layer's attention over packed groups, with a gradient."""
    window = call.window if call.window is not None and call.window < packed.longest else None
    is_plain = not (call.dropout or window or call.softcap) and call.sinks_H is None
    if is_plain and fused_attention.usable(call):
        return fused_attention.attend(call, packed.groups)
    repeats = len(call.query_H_T_d) // len(call.key_G_T_d)
    key_H_T_d, value_H_T_d = (part.repeat_interleave(repeats, 0) for part in (call.key_G_T_d, call.value_G_T_d))
    outputs = []
    for group in packed.groups:
        for queries in _queries(group):
            places = [group.prompt] if queries == group.prompt else [group.prompt, queries]
            key, value = (torch.cat([part[:, at] for at in places], 1) for part in (key_H_T_d, value_H_T_d))
            positions = torch.cat([packed.positions_T[at] for at in places])
            distance = packed.positions_T[queries, None] - positions
            mask = (distance >= 0) & (distance < (window or packed.longest))
            outputs.append(_masked(call, call.query_H_T_d[:, queries], key, value, mask))
    return torch.cat(outputs, 1).transpose(0, 1).contiguous()


def _queries(group: Group) -> list[slice]:
    """The group's tokens in the order of the packed sequence; a response of one token has none to read."""
    return [group.prompt, *(response for response in group.responses if response.start < response.stop)]


def _masked(call: AttentionCall, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of some queries to some keys, both by head; ``mask`` is true if a query sees a key."""
    if not call.softcap and call.sinks_H is None:
        return scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=mask, dropout_p=call.dropout, scale=call.scale
        )[0]
    scores = (query @ key.mT) * call.scale
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if call.softcap:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if call.sinks_H is not None:
        scores = torch.cat([scores, call.sinks_H.to(scores)[:, None, None].expand(*scores.shape[:2], 1)], -1)
    weights = scores.softmax(-1)[..., : key.shape[1]]
    return dropout(weights, call.dropout).to(value.dtype) @ value


register_attention(NAME, "packed", attend)


# pyright: standard
