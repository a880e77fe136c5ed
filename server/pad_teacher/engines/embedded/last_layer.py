"""A decoder's last layer, computed only where a prediction is wanted: nothing attends to what it makes elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PARTS = ("self_attn.o_proj", "mlp")  # what works on each position by itself, as most decoders name it
MOST = 0.7  # share of wanted positions above which copying them saves little time, and costs memory


@contextmanager
def only_at(decoder: Any, wanted_W: Tensor, tokens: int) -> Iterator[None]:
    """Within this, a pass over ``tokens`` gives right states at the positions ``wanted_W``, and any elsewhere."""
    parts = _parts(decoder) if len(wanted_W) <= MOST * tokens else ()
    hooks = [hook for part in parts for hook in _hooks(part, wanted_W)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _parts(decoder: Any) -> Iterator[nn.Module]:
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return
    for name in PARTS:
        part: Any = layers[-1]
        for step in name.split("."):
            part = getattr(part, step, None)
        if isinstance(part, nn.Module):
            yield part


def _hooks(part: nn.Module, wanted_W: Tensor) -> Iterator[Any]:
    """The part sees the wanted positions alone; what it gives is zero at the others."""
    length: list[int] = []

    def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        length[:] = [inputs[0].shape[1]]
        return (inputs[0][:, wanted_W], *inputs[1:])

    def spread(_: nn.Module, __: Any, output: Any) -> Any:
        states, *rest = output if isinstance(output, tuple) else (output,)
        whole = torch.zeros(1, length[0], states.shape[-1], dtype=states.dtype, device=states.device)
        whole[:, wanted_W] = states
        return (whole, *rest) if rest else whole

    yield part.register_forward_pre_hook(take)
    yield part.register_forward_hook(spread)
