"""How sets are scored: the options of the scoring routes."""

from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from pad_wire import Form, Orders


class ScoreFields(TypedDict, total=False):
    """The fields of ``ScoreOptions`` as keyword arguments."""

    alpha: float | None
    form: Form
    orders: Orders
    truncate: bool
    unconditional: bool


class _Settings(Protocol):
    """Settings of a command or a run that have most fields of ``ScoreOptions``."""

    alpha: Any
    form: Any
    orders: Any


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How sets are scored.

    Attributes:
        alpha: weight that the selection probability will have in the reward; at 0 the multiple-choice questions are
            not asked, and ``selection_probability`` is None. It is not sent.
        form: of the multiple-choice question.
        orders: option orders that are averaged.
        truncate: cut a text that exceeds the teacher's context, instead of refusing it.
        unconditional: ask for ``unconditional_log_likelihood`` too, that of each response after an empty request.
    """

    alpha: float | None = None
    form: Form = "listwise"
    orders: Orders = "cyclic"
    truncate: bool = False
    unconditional: bool = False

    @classmethod
    def of(cls, settings: _Settings, truncate: bool = False) -> "ScoreOptions":
        """Those of a command's or a run's settings; ``normalization: relative`` needs ``unconditional`` too."""
        relative = getattr(settings, "normalization", None) == "relative"
        unconditional = relative or getattr(settings, "unconditional", False)
        return cls(settings.alpha, settings.form, settings.orders, truncate, unconditional)

    @property
    def asks_selection(self) -> bool:
        """Whether the multiple-choice questions are asked."""
        return self.alpha != 0

    @property
    def of_likelihood(self) -> dict[str, Any]:
        """The fields of a likelihood request."""
        asked = {"unconditional": True} if self.unconditional else {}
        return {"truncate": self.truncate, **asked}

    @property
    def of_selection(self) -> dict[str, Any]:
        """The fields of a selection request."""
        return {"form": self.form, "orders": self.orders, "truncate": self.truncate}

    @property
    def of_score(self) -> dict[str, Any]:
        """The fields of a score request."""
        return self.of_selection | self.of_likelihood
