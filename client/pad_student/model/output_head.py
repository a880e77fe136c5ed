"""Log-probabilities of given tokens from hidden states, without ever holding the logits of all of them.

A vocabulary of 256,000 makes logits the largest tensor of training. Where the output head is a plain matrix they are
made a block of the vocabulary at a time, so that the matrix and its gradient are gone through once; where it is
something else, an adapter say, a chunk of the positions at a time. Either way they are made again for the gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from pad_student.model.distributed.sharding import in_zero_shards

CPU_LOGITS, GPU_LOGITS = 2**23, 2**26  # held at once: 32 MiB in float32, and 256 MiB where kernels need to be large

USUAL_CHUNK = 256  # predictions, where the size of the vocabulary is the head's own affair


class Transform(NamedTuple):
    """What stands between output head and softmax: Cohere multiplies, Granite divides, Gemma caps."""

    factor: float
    cap: float | None

    @classmethod
    def of(cls, config: Any) -> "Transform":
        """As a transformers text config says."""
        factor = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(factor, getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        """Transformed logits, at least float32."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scaled = logits if self.factor == 1 else logits * self.factor
        return self.cap * torch.tanh(scaled / self.cap) if self.cap else scaled

    def gradient_(self, gradient: Tensor, transformed: Tensor) -> Tensor:
        """The gradient by the logits, in place, from that by what they became."""
        if self.cap:
            gradient *= 1 - (transformed / self.cap).square()
        return gradient if self.factor == 1 else gradient.mul_(self.factor)


def target_log_probs(
    head: nn.Module, hidden: Tensor, target: Tensor, transform: Transform, chunk_size: int | None = None
) -> Tensor:
    """Log-probability [K] of each ``target`` [K] after hidden states [K, H], at least float32, differentiable once.

    Args:
        head: the model's output head.
        hidden: states behind the last layer.
        target: token ids.
        transform: of the logits.
        chunk_size: predictions whose logits may be held at once; by default what the device's ``…_LOGITS`` allow.
    """
    sharded = isinstance(head, FSDPModule) or in_zero_shards(head)
    if sharded and isinstance(head, nn.Linear):
        # Sharded weights are whole within a call of the module, and one call is all that FSDP takes.
        with forward_replaced(head, lambda states: _by_vocabulary(head, states, target, transform, chunk_size)):
            return head(hidden)
    if isinstance(head, nn.Linear) and _is_plain(head):
        return _by_vocabulary(head, hidden, target, transform, chunk_size)

    def of_chunk(hidden_C_H: Tensor, target_C: Tensor) -> Tensor:
        logits_C_V = transform(head(hidden_C_H))
        return logits_C_V.gather(1, target_C.unsqueeze(1)).squeeze(1) - logits_C_V.logsumexp(-1)

    # Each call gathers shards from all processes, which have different numbers of tokens: there is one for all.
    size = len(target) if sharded else chunk_size or USUAL_CHUNK
    chunks = zip(hidden.split(size), target.split(size), strict=True)
    # Recomputing the head's chunk in the backward pass is what frees its logits in the forward one.
    return torch.cat([checkpoint(of_chunk, *chunk, use_reentrant=False) for chunk in chunks])


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Let ``module.forward`` be another function for a while: wrappers and hooks around it stay in force."""
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
    head: nn.Linear, hidden: Tensor, target: Tensor, transform: Transform, chunk_size: int | None
) -> Tensor:
    most = CPU_LOGITS if hidden.device.type == "cpu" else GPU_LOGITS
    most = chunk_size * head.out_features if chunk_size else most
    block = max(1, min(head.out_features, most // len(target)))
    return _ByVocabulary.apply(hidden, head.weight, head.bias, target, transform, block)


def _is_plain(head: nn.Linear) -> bool:
    """Whether calling the head does no more than multiply by a matrix that is all here."""
    hooked = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or "forward" in head.__dict__
    whole = type(head.weight) is nn.Parameter and not in_zero_shards(head)  # nor a DTensor
    return type(head) is nn.Linear and not hooked and whole


class _ByVocabulary(torch.autograd.Function):
    """A running log-sum-exp over blocks of the vocabulary; its gradient by the same blocks again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        transform: Transform,
        block: int,
    ) -> Tensor:
        device = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        ctx.transform, ctx.block = transform, block
        total_K = hidden.new_full(target.shape, -torch.inf, dtype=torch.promote_types(ctx.dtype, torch.float32))
        target_logit_K = total_K.clone()
        for start in range(0, len(weight), block):
            logits_K_B = transform(_logits(ctx, hidden, weight, bias, start))
            here_K, index_K_1 = _within(target, start, logits_K_B.shape[1])
            total_K = torch.logaddexp(total_K, logits_K_B.logsumexp(-1))
            target_logit_K = torch.where(here_K, logits_K_B.gather(1, index_K_1).squeeze(1), target_logit_K)
        ctx.save_for_backward(hidden, weight, bias, target, total_K)
        return target_logit_K - total_K

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient_K,) = grad_outputs
        hidden, weight, bias, target, total_K = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        d_hidden = torch.zeros_like(hidden) if wants_hidden else None
        d_weight = torch.empty_like(weight) if wants_weight else None
        d_bias = torch.empty_like(bias) if wants_bias else None
        for start in range(0, len(weight), ctx.block):
            at = slice(start, start + ctx.block)
            logits_K_B = ctx.transform(_logits(ctx, hidden, weight, bias, start))
            here_K, index_K_1 = _within(target, start, logits_K_B.shape[1])
            d_K_B = (logits_K_B - total_K[:, None]).exp_().mul_(-gradient_K[:, None])
            d_K_B.scatter_add_(1, index_K_1, (gradient_K * here_K)[:, None])
            d_K_B = ctx.transform.gradient_(d_K_B, logits_K_B).to(ctx.dtype)
            if d_hidden is not None:
                d_hidden += d_K_B @ weight[at].to(ctx.dtype)
            if d_weight is not None:
                d_weight[at] = d_K_B.T @ hidden.to(ctx.dtype)
            if d_bias is not None:
                d_bias[at] = d_K_B.sum(0)
        return d_hidden, d_weight, d_bias, None, None, None


def _logits(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, start: int) -> Tensor:
    at = slice(start, start + ctx.block)
    with torch.autocast(hidden.device.type, enabled=False):
        return nn.functional.linear(
            hidden.to(ctx.dtype), weight[at].to(ctx.dtype), None if bias is None else bias[at].to(ctx.dtype)
        )


def _within(target_K: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Which targets lie in a block of the vocabulary, and where; any place for the others."""
    place_K = target_K - start
    return (place_K >= 0) & (place_K < size), place_K.clamp(0, size - 1)[:, None]
