"""Attention over packed groups by the CPU's fused kernel, in parts that are merged exactly, with its gradient.

A softmax over two sets of keys is the mean of both softmaxes, weighted by their normalisers. And given the merged
output and normaliser, the kernel's gradient over some of the keys is their share of the whole gradient, which is made
of exp(score - normaliser) and the output alone. So no mask is needed, no key is repeated, and nothing but queries,
keys, values and outputs is kept.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pad_student.model.packing import Group

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part(NamedTuple):
    """Attention of some tokens to some keys: causally to themselves, or densely.

    Each token attends to its prompt first; each key is attended to causally first.
    """

    queries: slice
    keys: slice
    causal: bool
    to_prompt: bool


def usable(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernel takes these: on a CPU, of one dtype and one head size."""
    alike = query.dtype == key.dtype == value.dtype and query.shape[-1] == value.shape[-1]
    return query.device.type == "cpu" and alike


def attend(query: Tensor, key: Tensor, value: Tensor, groups: Sequence[Group], scale: float) -> Tensor:
    """Query ``[1, H, T, d]``, key and value ``[1, G, T, d]`` to output ``[1, T, H, d]``, differentiable once."""
    return _Attention.apply(query, key, value, list(_parts(groups)), scale)


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
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: list[Part], scale: float) -> Tensor:
        query_G_H_T_d, key_G_H_T_d, value_G_H_T_d = _by_key_head(query, key, value)
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
                here.lerp_(more, torch.sigmoid(more_total - here_total)[..., None].to(more.dtype))
                here_total.copy_(torch.logaddexp(here_total, more_total))
        output = output_G_H_T_d.flatten(0, 1).transpose(0, 1)[None]
        ctx.save_for_backward(query, key, value, output, total_G_H_T)
        ctx.parts, ctx.scale = parts, scale
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = grad_outputs
        query, key, value, output, total_G_H_T = ctx.saved_tensors
        query_G_H_T_d, key_G_H_T_d, value_G_H_T_d = _by_key_head(query, key, value)
        output_G_H_T_d, gradient_G_H_T_d = (
            part[0].transpose(0, 1).unflatten(0, query_G_H_T_d.shape[:2]) for part in (output, gradient)
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
        return d_query.flatten(0, 1)[None], d_key.sum(1)[None], d_value.sum(1)[None], None, None


def _by_key_head(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heads that share keys as a batch of their own: the keys are repeated by a stride of zero, not copied."""
    repeats = query.shape[1] // key.shape[1]
    key_G_H_T_d, value_G_H_T_d = (part[0, :, None].expand(-1, repeats, -1, -1) for part in (key, value))
    return query[0].unflatten(0, (key.shape[1], repeats)), key_G_H_T_d, value_G_H_T_d


def _laid_out_like(query_G_H_T_d: Tensor) -> Tensor:
    """Memory in the order [T, G, H, d], which is what the layers around attention read and write."""
    groups, heads, length, size = query_G_H_T_d.shape
    return query_G_H_T_d.new_empty(length, groups, heads, size).permute(1, 2, 0, 3)


def _put(place: Tensor, value: Tensor, first: bool) -> None:
    if first:
        place.copy_(value)
    else:
        place.add_(value)
