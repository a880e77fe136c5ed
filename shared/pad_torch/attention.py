"""A way of attending as transformers calls it: one object for a layer's call, registered under a name."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface


class PackedSequence(Protocol):
    """Several rows packed into one sequence, each with what it shares with others only once."""

    windows: list[int | None]  # each attention layer appends the sliding window that it was called with


Packing = TypeVar("Packing", bound=PackedSequence)


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """The attention that one layer asks for, over one packed sequence.

    ``query_H_T_d``, ``key_G_T_d`` and ``value_G_T_d`` are its heads; the size of values may differ from that of keys.
    ``scale`` multiplies the scores; ``window`` is the number of keys that a query sees, its own included;
    ``softcap`` caps the scores; ``sinks_H`` is the score of one more key for each head, which has no value;
    ``dropout`` is a probability.
    """

    query_H_T_d: Tensor
    key_G_T_d: Tensor
    value_G_T_d: Tensor
    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks_H: Tensor | None = None
    dropout: float = 0.0

    @property
    def has_even_heads(self) -> bool:
        """Whether values are as large as keys."""
        return self.query_H_T_d.shape[-1] == self.value_G_T_d.shape[-1]

    def by_key_head(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value [G, H, T, d], where H counts the heads that share a key head.

        Keys and values are repeated by a stride of zero, not copied.
        """
        return by_key_head(self.query_H_T_d, self.key_G_T_d, self.value_G_T_d)


def by_key_head(query_H_T_d: Tensor, key_G_T_d: Tensor, value_G_T_d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See ``AttentionCall.by_key_head``."""
    groups, repeats = len(key_G_T_d), len(query_H_T_d) // len(key_G_T_d)
    key_G_H_T_d, value_G_H_T_d = (part[:, None].expand(-1, repeats, -1, -1) for part in (key_G_T_d, value_G_T_d))
    query_G_H_T_d = query_H_T_d.view(groups, repeats, *query_H_T_d.shape[1:])
    return query_G_H_T_d, key_G_H_T_d, value_G_H_T_d


def register_attention(name: str, argument: str, attend: Callable[[AttentionCall, Packing], Tensor]) -> None:
    """Let transformers' models attend by ``attend`` when their attention implementation is ``name``.

    Args:
        name: of the implementation.
        argument: the keyword under which the model's forward pass is given the packed sequence.
        attend: from a layer's call and the packed sequence to ``[T, H, d]``; it builds its own mask.
    """

    def call(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        if attention_mask is not None or query.shape[0] != 1 or "position_bias" in others:
            raise ValueError("the model adds something to its attention scores")
        packed = others[argument]
        packed.windows.append(sliding_window)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        asked = AttentionCall(query[0], key[0], value[0], scale, sliding_window, softcap, s_aux, dropout)
        return attend(asked, packed)[None], None

    attentions: Any = AttentionInterface  # whose own types are incomplete
    masks: Any = AttentionMaskInterface
    attentions.register(name, call)
    masks.register(name, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """The mask function that transformers calls; it makes none."""


@contextmanager
def attention_of(model: Any, name: str) -> Generator[None]:
    """Within the block, ``model`` has the attention implementation ``name``.

    What gradient checkpointing recomputes in a backward pass must be within it, too.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
