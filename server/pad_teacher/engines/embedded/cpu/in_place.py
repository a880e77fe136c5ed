"""The same arithmetic in fewer passes over memory, on a CPU: rotary embeddings, gated MLPs and norms, in place.

transformers writes them for training, a new tensor an operation. Where a model's code is Llama's word for word, as
most decoders' is, these stand in for it during a forward pass of the engine, and only then.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama import modeling_llama as llama


@dataclass(frozen=True, slots=True)
class Swap:
    """A class or module, the name of a function in it, and what replaces that."""

    owner: Any
    name: str
    replacement: Callable[..., Any]


def swaps_for(model: Any) -> list[Swap]:
    """What of this model can be replaced; nothing where it does not run on a CPU."""
    if model.device.type != "cpu":
        return []
    classes = {type(module) for module in model.modules()}
    found = [
        Swap(owner, "forward", replacement)
        for owner in classes
        for original, replacement in ((llama.LlamaMLP.forward, _gated_mlp), (llama.LlamaRMSNorm.forward, _rms_norm))
        if _same(owner.forward, original)
    ]
    rotary = "apply_rotary_pos_emb"
    modules = {sys.modules[owner.__module__] for owner in classes}
    return found + [
        Swap(module, rotary, _rotary)
        for module in modules
        if _same(getattr(module, rotary, None), llama.apply_rotary_pos_emb)
    ]


@contextmanager
def swapped(swaps: Sequence[Swap]) -> Iterator[None]:
    """Within this, the replacements are in place."""
    originals = [getattr(swap.owner, swap.name) for swap in swaps]
    for swap in swaps:
        setattr(swap.owner, swap.name, swap.replacement)
    try:
        yield
    finally:
        for swap, original in zip(swaps, originals, strict=True):
            setattr(swap.owner, swap.name, original)


def _same(function: Any, original: Any) -> bool:
    try:
        return function is not None and inspect.getsource(function) == inspect.getsource(original)
    except (OSError, TypeError):  # not written in Python
        return False


def _gated_mlp(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(self.act_fn(self.gate_proj(x)).mul_(self.up_proj(x)))


def _rms_norm(self: Any, hidden_states: Tensor) -> Tensor:
    hidden = hidden_states.float()
    norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    scale = norm.square_().div_(hidden.shape[-1]).add_(self.variance_epsilon).rsqrt_()
    return self.weight * (hidden * scale).to(hidden_states.dtype)


def _rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    rotated = x * cos
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return rotated
