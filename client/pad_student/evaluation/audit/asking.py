"""Asks the teacher about sets of known quality: for likelihoods, and one question for each order."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pad_student.errors import EvaluationError
from pad_student.evaluation.audit.known_sets import KnownSet
from pad_student.teacher.client import Teacher
from pad_wire import SampledSet

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WithAndWithout:
    """Mean log-likelihoods of one set's responses after their prompt and after an empty request, nats a token."""

    request_N: Array
    empty_N: Array


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Of one set: mean log-likelihood in nats and tokens of each response."""

    mean_log_likelihood_N: Array
    tokens_N: Array


@dataclass(frozen=True, slots=True)
class Choices:
    """Of one set: the probability that each response is picked in each order, and the mass on letters.

    ``orders_O_N`` holds the responses' indices as shown; ``probabilities_O_N`` is by response, not by letter.
    """

    orders_O_N: NDArray[np.int64]
    probabilities_O_N: Array
    label_mass: float


@dataclass(slots=True)
class Cost:
    """Teacher tokens and seconds that asking took, over ``sets`` sets."""

    sets: int = 0
    teacher_tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_set(self) -> float:
        """Teacher tokens for one set."""
        return self.teacher_tokens / self.sets if self.sets else math.nan


def add_cost(teacher: Teacher, sets: int, asked: Callable[[], object], cost: Cost) -> None:
    """Run ``asked`` and add to ``cost`` what it took."""
    tokens, began = teacher.tokens_scored, time.monotonic()
    asked()
    cost.sets += sets
    cost.teacher_tokens += teacher.tokens_scored - tokens
    cost.seconds += time.monotonic() - began


def likelihoods(teacher: Teacher, sets: Sequence[KnownSet]) -> list[Likelihoods]:
    """Every response's likelihood.

    Raises:
        TeacherError: if the teacher does not answer, or refuses.
    """
    return [
        Likelihoods(
            np.array([response.mean_log_likelihood for response in each.responses]),
            np.array([response.tokens for response in each.responses], float),
        )
        for each in teacher.likelihood([known.set for known in sets])
    ]


def with_and_without_request(teacher: Teacher, sets: Sequence[KnownSet]) -> list[WithAndWithout]:
    """Mean ln p(response | prompt) and mean ln p(response | empty request).

    Raises:
        TeacherError: if the teacher does not answer, or refuses.
        EvaluationError: if a reply lacks the likelihood after an empty request.
    """
    found: list[WithAndWithout] = []
    for each in teacher.likelihood([known.set for known in sets], unconditional=True):
        alone = [response.unconditional_log_likelihood for response in each.responses]
        if None in alone:
            raise EvaluationError(f"set {each.id!r}: the teacher's reply has no likelihood after an empty request")
        tokens = np.array([response.tokens for response in each.responses], dtype=np.float64)
        mean = np.array([response.mean_log_likelihood for response in each.responses])
        found.append(WithAndWithout(mean, np.array(alone, dtype=np.float64) / tokens))
    return found


def rotations(n: int) -> NDArray[np.int64]:
    """The ``n`` cyclic orders of ``n`` responses: [orders, n]."""
    return (np.arange(n)[None, :] + np.arange(n)[:, None]) % n


def listwise(teacher: Teacher, sets: Sequence[KnownSet]) -> list[Choices]:
    """Every rotation asked as a question of its own, so that each order's answer is seen.

    Raises:
        TeacherError: if the teacher does not answer, or refuses.
    """
    asked = [
        _shown(known.set, order.tolist(), f"{known.set.id} {k}")
        for known in sets
        for k, order in enumerate(rotations(len(known.kinds)))
    ]
    answers = iter(teacher.selection(asked, orders="single", distinct=False))
    found: list[Choices] = []
    for known in sets:
        orders_O_N = rotations(len(known.kinds))
        probabilities_O_N = np.zeros(orders_O_N.shape)
        masses: list[float] = []
        for k, order in enumerate(orders_O_N):
            answer = next(answers)
            probabilities_O_N[k, order] = [response.selection_probability for response in answer.responses]
            masses.append(math.nan if answer.label_mass is None else answer.label_mass)
        found.append(Choices(orders_O_N, probabilities_O_N, float(np.mean(masses))))
    return found


def pairwise(teacher: Teacher, sets: Sequence[KnownSet]) -> list[Array]:
    """Each response's mean chance to win a pair, asked in both orders: [n] a set.

    Raises:
        TeacherError: if the teacher does not answer, or refuses.
    """
    asked = [known.set for known in sets]
    answers = teacher.selection(asked, form="pairwise", orders="both", distinct=False)
    return [np.array([response.selection_probability for response in answer.responses]) for answer in answers]


def _shown(each: SampledSet, order: Sequence[int], name: str) -> SampledSet:
    return SampledSet(id=name[:256], prompt=each.prompt, responses=[each.responses[k] for k in order])
