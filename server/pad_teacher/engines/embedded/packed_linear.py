"""Linear layers in float32 on a CPU, with weights in the layout that oneDNN's matrix product reads fastest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 1024  # input rows to lay the weights out for; other numbers run as fast
# Share of the layers that stay plain, the first ones (2 of 30). oneDNN sums a dot product in longer chains than the
# plain product, and nearly all the rounding that this adds comes from the first layers (benchmarks.rounding).
PLAIN_SHARE = 1 / 15


def pack(weight_V_D: Tensor) -> Tensor:
    """The weight in oneDNN's blocked layout: an opaque tensor, from which ``to_dense()`` makes the original."""
    return torch.ops.mkldnn._reorder_linear_weight(weight_V_D.detach().contiguous(), ROWS)


def multiply(input_K_D: Tensor, packed_V_D: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias`` [K, V] with a packed weight."""
    return torch.ops.mkldnn._linear_pointwise(input_K_D, packed_V_D, bias_V, "none", [], "")


def usable(model: Any) -> bool:
    """Whether packing helps: a float32 model on a CPU."""
    return model.device.type == "cpu" and model.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class PackedLinear(nn.Module):
    """Replaces a ``Linear``; holds the weight only packed."""

    plain = False

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.packed_V_D = pack(linear.weight)

    @property
    def weight(self) -> Tensor:
        """The weight as loaded, made anew at each access."""
        return self.packed_V_D.to_dense()

    def forward(self, inputs: Tensor) -> Tensor:
        """The same as ``Linear``."""
        if self.plain:
            return nn.functional.linear(inputs, self.weight, self.bias)
        return multiply(inputs, self.packed_V_D, self.bias)


def pack_linears(decoder: nn.Module) -> None:
    """Replace every ``Linear`` of a decoder, except in its first layers."""
    layers = getattr(decoder, "layers", None)
    plain = set(layers[: round(PLAIN_SHARE * len(layers))]) if isinstance(layers, nn.ModuleList) else set()
    _pack_below(decoder, plain)


def _pack_below(module: nn.Module, plain: set[nn.Module]) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        elif child not in plain:
            _pack_below(child, plain)


@contextmanager
def unpacked() -> Iterator[None]:
    """Within the block, packed layers compute the plain product, as a reference needs it."""
    PackedLinear.plain = True
    try:
        yield
    finally:
        PackedLinear.plain = False


# pyright: standard
