"""The plan of a request: the queries to queue, and a function that makes the reply from their answers."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pad_teacher.engines.queries import Answer, FloatArray, Query
from pad_teacher.errors import Refusal
from pad_wire import Usage
from pad_wire.text import WireModel


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, tokenised: ``reply`` takes the answers to ``queries``, in order.

    ``held`` are the lists that ``reply`` reads; they hold most of the plan's memory.
    """

    queries: list[Query]
    usage: Usage
    reply: Callable[[Sequence[Answer]], WireModel]
    held: Sequence[list[Any]] = ()


@dataclass(slots=True)
class PlanBudget:
    """Limits of planning, before anything is queued: a small body can ask for very many questions.

    ``tokens`` are those that the request may still cost, ``batch_tokens`` the limit of one query, ``deadline`` is on
    ``time.monotonic``'s clock; ``left`` is set once the client has hung up.
    """

    tokens: int
    batch_tokens: int
    deadline: float | None = None
    left: threading.Event = field(default_factory=threading.Event)

    def spend(self, tokens: int, where: str) -> None:
        """Count tokens as they are planned.

        Raises:
            Refusal: ``too_long`` if the request could never be queued; ``deadline_exceeded`` if it is too late or
                the client has left.
        """
        self.tokens -= tokens
        if self.tokens < 0:
            raise Refusal(
                "too_long", "the request costs more teacher tokens than the queue holds: split it", where=where
            )
        if self.left.is_set() or (self.deadline is not None and self.deadline <= time.monotonic()):
            raise Refusal("deadline_exceeded", "the deadline passed while the request was read", where=where)


def usage(*, prompt: int = 0, response: int = 0, question: int = 0) -> Usage:
    """Token counts with their total."""
    total = prompt + response + question
    return Usage(prompt_tokens=prompt, response_tokens=response, question_tokens=question, total_tokens=total)


def finite_logprobs(values: FloatArray, where: str) -> FloatArray:
    """``values``, cut to at most 0: rounding may leave the log-probability of a certain token just above.

    Raises:
        Refusal: ``engine_failed`` if one is not finite; such a number is never sent to a client.
    """
    if not np.isfinite(values).all():
        message = "the teacher's log-probability is not finite"
        raise Refusal("engine_failed", message, where=where, retryable=False)
    return np.minimum(values, 0.0)
