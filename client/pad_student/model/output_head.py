"""Log-probabilities of given tokens from hidden states, without ever holding the logits of all of them.

A vocabulary of 256,000 makes logits the largest tensor of training. If the output head is a plain matrix, they are
made for one block of the vocabulary at a time, so that the matrix and its gradient are gone through once. If it is
something else, an adapter for example, they are made for one chunk of the predictions at a time. Either way they are
made again for the gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from pad_student.model.distributed.sharding import in_zero_shards
from pad_torch.logit_transform import LogitTransform

CPU_LOGITS, GPU_LOGITS = 2**23, 2**26  # held at once: 32 MiB in float32, and 256 MiB, as GPUs need large kernels

NOTHING = -1e30  # the log-sum-exp over no token: finite, so that it can be subtracted
USUAL_CHUNK = 256  # predictions, if only the head knows the size of its vocabulary


def target_log_probs(
    output_head: nn.Module,
    hidden_K_D: Tensor,
    target_K: Tensor,
    transform: LogitTransform,
    chunk_size: int | None = None,
    named_K_A: Tensor | None = None,
) -> Tensor:
    """Log-probability [K] of each target after its hidden states, at least float32, differentiable once.

    With ``named_K_A`` it is [K, 1 + A + 1]: the target's, that of each named token, and that of the rest. The rest is
    summed over all tokens that are not named, so that it has all its digits where it is small.

    Args:
        output_head: the model's.
        hidden_K_D: the last layer's states.
        target_K: token ids.
        transform: of the logits.
        chunk_size: predictions whose logits may be held at once; by default what the device's ``…_LOGITS`` allow.
        named_K_A: token ids, none of them twice in a row.
    """
    names_K_A = target_K.new_empty(len(target_K), 0) if named_K_A is None else named_K_A
    found_K_W = _read_at(output_head, hidden_K_D, torch.column_stack([target_K, names_K_A]), transform, chunk_size)
    return found_K_W[:, 0] if named_K_A is None else found_K_W


def _read_at(
    output_head: nn.Module, hidden_K_D: Tensor, ids_K_W: Tensor, transform: LogitTransform, chunk_size: int | None
) -> Tensor:
    """Log-probabilities [K, W + 1] of the ids, and of the rest besides all ids after the first."""
    sharded = isinstance(output_head, FSDPModule) or in_zero_shards(output_head)
    if sharded and isinstance(output_head, nn.Linear):
        # Sharded weights are whole within a call of the module, and one call is all that FSDP takes.
        def by_vocabulary(states_K_D: Tensor) -> Tensor:
            return _by_vocabulary(output_head, states_K_D, ids_K_W, transform, chunk_size)

        with forward_replaced(output_head, by_vocabulary):
            return output_head(hidden_K_D)
    if isinstance(output_head, nn.Linear) and _is_plain(output_head):
        return _by_vocabulary(output_head, hidden_K_D, ids_K_W, transform, chunk_size)

    def of_chunk(hidden_K_D: Tensor, ids_K_W: Tensor) -> Tensor:
        logits_K_V = transform(output_head(hidden_K_D))
        others_K_V = logits_K_V.scatter(1, ids_K_W[:, 1:], -torch.inf)
        read_K_W = torch.column_stack([logits_K_V.gather(1, ids_K_W), others_K_V.logsumexp(-1)])
        return read_K_W - logits_K_V.logsumexp(-1, keepdim=True)

    # Each call gathers shards from all processes, whose numbers of predictions differ, so each makes just one call.
    size = len(ids_K_W) if sharded else chunk_size or USUAL_CHUNK
    chunks = zip(hidden_K_D.split(size), ids_K_W.split(size), strict=True)
    # The backward pass computes a chunk again, so that the forward pass need not keep its logits.
    return torch.cat([checkpoint(of_chunk, *chunk, use_reentrant=False) for chunk in chunks])


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Within the block, ``module.forward`` is another function; wrappers and hooks around it stay in force."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _by_vocabulary(
    output_head: nn.Linear, hidden_K_D: Tensor, ids_K_W: Tensor, transform: LogitTransform, chunk_size: int | None
) -> Tensor:
    most = CPU_LOGITS if hidden_K_D.device.type == "cpu" else GPU_LOGITS
    most = chunk_size * output_head.out_features if chunk_size else most
    block = max(1, min(output_head.out_features, most // len(ids_K_W)))
    return _ByVocabulary.apply(hidden_K_D, output_head.weight, output_head.bias, ids_K_W, transform, block)


def _is_plain(output_head: nn.Linear) -> bool:
    """Whether calling the head only multiplies by a matrix, all of which is on this device."""
    hooks = output_head._forward_hooks or output_head._forward_pre_hooks or output_head._backward_hooks
    is_own = type(output_head) is nn.Linear and not hooks and "forward" not in output_head.__dict__
    return is_own and type(output_head.weight) is nn.Parameter and not in_zero_shards(output_head)  # nor a DTensor


class _ByVocabulary(torch.autograd.Function):
    """A running log-sum-exp over blocks of the vocabulary; the gradient goes through the same blocks again.

    The first of ``ids_K_W`` is the target; the others are named, and left out of the rest.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_K_D: Tensor,
        weight_V_D: Tensor,
        bias_V: Tensor | None,
        ids_K_W: Tensor,
        transform: LogitTransform,
        block: int,
    ) -> Tensor:
        device = hidden_K_D.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_V_D.dtype
        ctx.transform, ctx.block = transform, block
        total_dtype = torch.promote_types(ctx.dtype, torch.float32)
        rest_K = hidden_K_D.new_full(ids_K_W.shape[:1], -torch.inf, dtype=total_dtype)
        read_K_W = hidden_K_D.new_full(ids_K_W.shape, -torch.inf, dtype=total_dtype)
        for start in range(0, len(weight_V_D), block):
            logits_K_V = transform(_logits(ctx, hidden_K_D, weight_V_D, bias_V, start))
            here_K_W, index_K_W = _within(ids_K_W, start, logits_K_V.shape[1])
            read_K_W = torch.where(here_K_W, logits_K_V.gather(1, index_K_W), read_K_W)
            others_K_V = _without_named(logits_K_V, here_K_W, index_K_W)
            rest_K = torch.logaddexp(rest_K, others_K_V.logsumexp(-1))
        total_K = torch.logaddexp(rest_K, read_K_W[:, 1:].logsumexp(-1)) if ids_K_W.shape[1] > 1 else rest_K
        ctx.save_for_backward(hidden_K_D, weight_V_D, bias_V, ids_K_W, total_K, rest_K)
        return torch.column_stack([read_K_W, rest_K]) - total_K[:, None]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden_K_D, weight_V_D, bias_V, ids_K_W, total_K, rest_K = ctx.saved_tensors
        gradient_K_W, of_rest_K_1 = grad_outputs[0][:, :-1], grad_outputs[0][:, -1:]
        of_total_K_1 = grad_outputs[0].sum(1, keepdim=True)
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        d_hidden_K_D = torch.zeros_like(hidden_K_D) if wants_hidden else None
        d_weight_V_D = torch.empty_like(weight_V_D) if wants_weight else None
        d_bias_V = torch.empty_like(bias_V) if wants_bias else None
        for start in range(0, len(weight_V_D), ctx.block):
            at = slice(start, start + ctx.block)
            logits_K_V = ctx.transform(_logits(ctx, hidden_K_D, weight_V_D, bias_V, start))
            here_K_W, index_K_W = _within(ids_K_W, start, logits_K_V.shape[1])
            d_K_V = (logits_K_V - total_K[:, None]).exp_().mul_(-of_total_K_1)
            if ids_K_W.shape[1] > 1:  # else the rest is the whole, and has no gradient
                others_K_V = _without_named(logits_K_V, here_K_W, index_K_W)
                d_K_V += (others_K_V - rest_K[:, None].clamp(min=NOTHING)).exp_().mul_(of_rest_K_1)
            d_K_V.scatter_add_(1, index_K_W, gradient_K_W * here_K_W)
            d_K_V = ctx.transform.gradient_(d_K_V, logits_K_V).to(ctx.dtype)
            if d_hidden_K_D is not None:
                d_hidden_K_D += d_K_V @ weight_V_D[at].to(ctx.dtype)
            if d_weight_V_D is not None:
                d_weight_V_D[at] = d_K_V.T @ hidden_K_D.to(ctx.dtype)
            if d_bias_V is not None:
                d_bias_V[at] = d_K_V.sum(0)
        return d_hidden_K_D, d_weight_V_D, d_bias_V, None, None, None


def _without_named(logits_K_V: Tensor, here_K_W: Tensor, index_K_W: Tensor) -> Tensor:
    """The logits of a block, with -inf for all named tokens in it; the same tensor if none are named at all."""
    if here_K_W.shape[1] == 1:
        return logits_K_V
    row, column = here_K_W[:, 1:].nonzero(as_tuple=True)
    others_K_V = logits_K_V.clone()
    others_K_V[row, index_K_W[:, 1:][row, column]] = -torch.inf
    return others_K_V


def _logits(ctx: Any, hidden_K_D: Tensor, weight_V_D: Tensor, bias_V: Tensor | None, start: int) -> Tensor:
    at = slice(start, start + ctx.block)
    bias = None if bias_V is None else bias_V[at].to(ctx.dtype)
    with torch.autocast(hidden_K_D.device.type, enabled=False):
        return nn.functional.linear(hidden_K_D.to(ctx.dtype), weight_V_D[at].to(ctx.dtype), bias)


def _within(ids_K_W: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Which ids lie in a block of the vocabulary, and at which index; any index for the others."""
    place_K_W = ids_K_W - start
    return (place_K_W >= 0) & (place_K_W < size), place_K_W.clamp(0, size - 1)


# pyright: standard
