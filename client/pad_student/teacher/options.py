"""How sets are scored: the options of the scoring routes."""

from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from pad_wire import Form, Orders
from pad_wire.scoring import TOLERANCE


class ScoreFields(TypedDict, total=False):
    """The fields of ``ScoreOptions`` as keyword arguments."""

    alpha: float | None
    form: Form
    orders: Orders
    truncate: bool
    unconditional: bool
    distinct: bool
    tolerance: float
    token_top: int | None
    reference: bool
    vocabulary: int | None


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
            not asked, and ``selection_probability`` is None. At 1 no likelihood is needed.
        form: of the multiple-choice question.
        orders: option orders that are averaged.
        truncate: cut a text that exceeds the teacher's context, instead of refusing it.
        unconditional: ask for ``unconditional_log_likelihood`` too, that of each response after an empty request.
        distinct: copies of one text are one option of the question, and each has the whole probability of its text.
        tolerance: total variation between two opposite orders past which ``adaptive`` asks in the others.
        token_top: ask for the distribution at each token, with so many of its likeliest tokens, and for nothing else.
        reference: ask for that of the teacher's reference too.
        vocabulary: number of the student's tokens, if they may be fewer than the teacher's.
    """

    alpha: float | None = None
    form: Form = "listwise"
    orders: Orders = "cyclic"
    truncate: bool = False
    unconditional: bool = False
    distinct: bool = True
    tolerance: float = TOLERANCE
    token_top: int | None = None
    reference: bool = False
    vocabulary: int | None = None

    @classmethod
    def of(cls, settings: _Settings, truncate: bool = False) -> "ScoreOptions":
        """Those of a command's or a run's settings; ``normalization: relative`` needs ``unconditional`` too."""
        method = getattr(settings, "method", "pad")
        if method != "pad":
            vocabulary = getattr(settings, "student_vocabulary", None)
            top: int = getattr(settings, "top_k", 0)
            return cls(truncate=truncate, token_top=top, reference=method == "adpa", vocabulary=vocabulary)
        relative = getattr(settings, "normalization", None) == "relative"
        unconditional = relative or getattr(settings, "unconditional", False)
        more = {name: getattr(settings, name) for name in ("distinct", "tolerance") if hasattr(settings, name)}
        return cls(settings.alpha, settings.form, settings.orders, truncate, unconditional, **more)

    @property
    def asks_selection(self) -> bool:
        """Whether the multiple-choice questions are asked."""
        return self.alpha != 0 and self.token_top is None

    @property
    def of_likelihood(self) -> dict[str, Any]:
        """The fields of a likelihood request."""
        asked = {"unconditional": True} if self.unconditional else {}
        return {"truncate": self.truncate, **asked}

    @property
    def of_token_logprobs(self) -> dict[str, Any]:
        """The fields of a request for distributions."""
        limit = {"vocabulary": self.vocabulary} if self.vocabulary else {}
        return {"top": self.token_top, "reference": self.reference, "truncate": self.truncate, **limit}

    @property
    def of_selection(self) -> dict[str, Any]:
        """The fields of a selection request."""
        # An older service knows none of the others, so they are sent only if they change something.
        more: dict[str, Any] = {} if self.distinct else {"distinct": False}
        more |= {"tolerance": self.tolerance} if self.orders == "adaptive" else {}
        return {"form": self.form, "orders": self.orders, "truncate": self.truncate, **more}

    @property
    def of_score(self) -> dict[str, Any]:
        """The fields of a score request."""
        # At 1 it is sent: a teacher that only chooses then knows that no likelihood is missed.
        return self.of_selection | self.of_likelihood | ({"alpha": 1} if self.alpha == 1 else {})
