"""What every route makes of a request: the queries to queue, and how to word the reply from their answers."""

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

    ``held`` are lists that ``reply`` reads, with most of what the plan keeps in memory.
    """

    queries: list[Query]
    usage: Usage
    reply: Callable[[Sequence[Answer]], WireModel]
    held: Sequence[list[Any]] = ()


@dataclass(slots=True)
class Budget:
    """What planning may cost before anything is queued: a small body can ask for very many questions.

    ``tokens`` is what is left of the queue's size, ``batch_tokens`` the size of one unit of work, ``deadline`` on
    ``time.monotonic``'s clock; ``left`` is set once the client has hung up.
    """

    tokens: int
    batch_tokens: int
    deadline: float | None = None
    left: threading.Event = field(default_factory=threading.Event)

    def spend(self, tokens: int, where: str) -> None:
        """Count work as it is planned.

        Raises:
            Refusal: where the request could never be queued, comes too late, or is no longer wanted.
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


def finite(values: FloatArray, where: str) -> FloatArray:
    """``values``, at most 0: rounding may leave a certain token a hair above.

    Raises:
        Refusal: where one is missing or not finite; such a number is never sent on.
    """
    if not np.isfinite(values).all():
        message = "the teacher's log-probability is not finite"
        raise Refusal("engine_failed", message, where=where, retryable=False)
    return np.minimum(values, 0.0)
