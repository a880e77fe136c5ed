"""The plan of a request: the queries to queue, and a function that makes the reply from their answers."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pad_teacher.engines.queries import Answer, AnyQuery, FloatArray
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.tensors import TensorReply
from pad_wire import Usage
from pad_wire.text import WireModel

READ_FOR_KEY = 4  # times a key's limit are read: the tokens of copies, and of texts that were scored before, are free


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, tokenised: ``reply`` takes the answers to ``queries``, in order, and makes the reply set by set.

    ``held`` are the lists that ``reply`` reads; they hold most of the plan's memory. If more may have to be asked,
    ``further`` takes the answers instead and gives the next plan, which may end the request or go on; all its queries
    are some of the first plan's ``may_ask``.
    """

    queries: list[Any]  # of AnyQuery
    usage: Usage
    reply: Callable[[Sequence[Answer]], Steps[WireModel | TensorReply]]
    held: Sequence[list[Any]] = ()
    may_ask: Sequence[AnyQuery] = ()
    further: "Callable[[Sequence[Answer]], Steps[Plan]] | None" = None


@dataclass(slots=True)
class PlanBudget:
    """Limits of planning, before anything is queued: a small body can ask for very many questions.

    ``tokens`` are those that the request may still cost, ``batch_tokens`` the limit of one query, ``deadline`` is on
    ``time.monotonic``'s clock, ``key_tokens`` the most that the key's limits ever allow a request; ``left`` is set
    once the client has hung up. ``as_json`` tells that the reply is to be JSON.
    """

    tokens: int
    batch_tokens: int
    deadline: float | None = None
    key_tokens: int | None = None
    as_json: bool = True
    charged: int = 0
    left: threading.Event = field(default_factory=threading.Event)

    def spend(self, tokens: int, where: str) -> None:
        """Count tokens as they are planned.

        Raises:
            Refusal: ``too_long`` if the request could never be queued; ``deadline_exceeded`` if it is too late or
                the client has left.
        """
        self.refuse_if_over(tokens, where)
        self.tokens -= tokens
        if self.left.is_set() or (self.deadline is not None and self.deadline <= time.monotonic()):
            raise Refusal("deadline_exceeded", "the deadline passed while the request was read", where=where)

    def refuse_if_over(self, tokens: int, where: str) -> None:
        """Refuse a request of at least ``tokens`` more, if it could never be queued.

        Raises:
            Refusal: ``too_long``.
        """
        if tokens > self.tokens:
            raise Refusal(
                "too_long", "the request costs more teacher tokens than the queue holds: split it", where=where
            )

    def charge(self, tokens: int, where: str) -> None:
        """Count tokens that the key pays for, unless they were scored before.

        Raises:
            Refusal: ``too_long`` if the key's limits could hardly allow them: reading stops.
        """
        self.charged += tokens
        if self.key_tokens is not None and self.charged > READ_FOR_KEY * self.key_tokens:
            message = (
                f"the request costs far more than the {self.key_tokens} teacher tokens of this key's limit: split it"
            )
            raise Refusal("too_long", message, where=where)


def usage(*, prompt: int = 0, response: int = 0, question: int = 0, one_text: int = 0) -> Usage:
    """Token counts with their total, and the number of sets of one text."""
    return Usage(
        prompt_tokens=prompt,
        response_tokens=response,
        question_tokens=question,
        total_tokens=prompt + response + question,
        sets_of_one_text=one_text or None,
    )


def finite_logprobs(values: FloatArray, where: str) -> FloatArray:
    """``values``, cut to at most 0: rounding may leave the log-probability of a certain token just above.

    Raises:
        Refusal: ``engine_failed`` if one is not finite; such a number is never sent to a client.
    """
    if not np.isfinite(values).all():
        message = "the teacher's log-probability is not finite"
        raise Refusal("engine_failed", message, where=where, retryable=False)
    return np.minimum(values, 0.0)
