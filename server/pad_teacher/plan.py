"""What every route makes of a request: the work to queue, and how to word the reply from its results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pad_teacher.engine import FloatArray
from pad_teacher.errors import Refusal
from pad_teacher.work import Result, Work
from pad_wire import Usage
from pad_wire.text import WireModel


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, tokenised: ``reply`` takes the results of ``works``, in order."""

    works: Sequence[Work]
    usage: Usage
    reply: Callable[[Sequence[Result]], WireModel]


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
