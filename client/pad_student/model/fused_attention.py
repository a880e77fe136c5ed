"""Attention over packed groups by the CPU's fused kernel, in parts that are merged exactly, with its gradient.

The outputs over two sets of keys are merged by their log-sum-exps (``pad_torch.merge_attention``). The kernel makes
its gradient of exp(score - log-sum-exp) and the output alone: called with the merged ones it gives the share of the
keys that it is called with. So no mask is needed, no key is repeated, and only queries, keys, values, outputs and
log-sum-exps are kept.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pad_student.model.packing import Group
from pad_torch.attention import AttentionCall, by_key_head
from pad_torch.merge_attention import merge_attention

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part(NamedTuple):
    """Attention of some tokens to some keys: causally to themselves, or densely to a prompt.

    A token attends to its prompt before it attends to its response, so ``to_prompt`` marks the part that writes its
    output first. A key's own tokens attend to it before others do, so ``causal`` marks the part that writes its
    gradient first.
    """

    queries: slice
    keys: slice
    causal: bool
    to_prompt: bool


def usable(call: AttentionCall) -> bool:
    """Whether the kernel takes these: on a CPU, of one dtype and one head size."""
    same_dtype = call.query_H_T_d.dtype == call.key_G_T_d.dtype == call.value_G_T_d.dtype
    return call.query_H_T_d.device.type == "cpu" and same_dtype and call.has_even_heads


def attend(call: AttentionCall, groups: Sequence[Group]) -> Tensor:
    """Output ``[T, H, d]``, differentiable once."""
    return _Attention.apply(call.query_H_T_d, call.key_G_T_d, call.value_G_T_d, list(_parts(groups)), call.scale)


def _parts(groups: Sequence[Group]) -> Iterator[Part]:
    for group in groups:
        yield Part(group.prompt, group.prompt, causal=True, to_prompt=True)
        together = slice(group.prompt.stop, group.responses[-1].stop)
        if together.start < together.stop:
            yield Part(together, group.prompt, causal=False, to_prompt=True)
        for response in group.responses:
            if response.start < response.stop:
                yield Part(response, response, causal=True, to_prompt=False)


class _Attention(torch.autograd.Function):
    """From query [H, T, d], key and value [G, T, d] to [T, H, d]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: list[Part], scale: float) -> Tensor:
        query_G_H_T_d, key_G_H_T_d, value_G_H_T_d = by_key_head(query, key, value)
        output_G_H_T_d = _laid_out_like(query_G_H_T_d)
        total_dtype = torch.promote_types(query.dtype, torch.float32)
        total_G_H_T = query.new_empty(query_G_H_T_d.shape[:3], dtype=total_dtype)
        for queries, keys, causal, to_prompt in parts:
            given = query_G_H_T_d[:, :, queries], key_G_H_T_d[:, :, keys], value_G_H_T_d[:, :, keys]
            more, more_total = _FORWARD(*given, 0.0, causal, scale=scale)
            here, here_total = output_G_H_T_d[:, :, queries], total_G_H_T[:, :, queries]
            if to_prompt:
                here.copy_(more)
                here_total.copy_(more_total)
            else:
                merge_attention(here, here_total, more, more_total)
        output_T_H_d = output_G_H_T_d.flatten(0, 1).transpose(0, 1)
        ctx.save_for_backward(query, key, value, output_T_H_d, total_G_H_T)
        ctx.parts, ctx.scale = parts, scale
        return output_T_H_d

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient_T_H_d,) = grad_outputs
        query, key, value, output_T_H_d, total_G_H_T = ctx.saved_tensors
        query_G_H_T_d, key_G_H_T_d, value_G_H_T_d = by_key_head(query, key, value)
        output_G_H_T_d, gradient_G_H_T_d = (
            part.transpose(0, 1).unflatten(0, query_G_H_T_d.shape[:2]) for part in (output_T_H_d, gradient_T_H_d)
        )
        d_query, d_key, d_value = (_laid_out_like(query_G_H_T_d) for _ in range(3))
        for queries, keys, causal, to_prompt in ctx.parts:
            d_query_part, d_key_part, d_value_part = _BACKWARD(
                gradient_G_H_T_d[:, :, queries],
                query_G_H_T_d[:, :, queries],
                key_G_H_T_d[:, :, keys],
                value_G_H_T_d[:, :, keys],
                output_G_H_T_d[:, :, queries],
                total_G_H_T[:, :, queries],
                0.0,
                causal,
                scale=ctx.scale,
            )
            _put(d_query[:, :, queries], d_query_part, first=to_prompt)
            _put(d_key[:, :, keys], d_key_part, first=causal)
            _put(d_value[:, :, keys], d_value_part, first=causal)
        return d_query.flatten(0, 1), d_key.sum(1), d_value.sum(1), None, None


def _laid_out_like(query_G_H_T_d: Tensor) -> Tensor:
    """Memory in the order [T, G, H, d], which is what the layers around attention read and write."""
    groups, heads, length, size = query_G_H_T_d.shape
    return query_G_H_T_d.new_empty(length, groups, heads, size).permute(1, 2, 0, 3)


def _put(place: Tensor, value: Tensor, first: bool) -> None:
    if first:
        place.copy_(value)
    else:
        place.add_(value)


# pyright: standard
