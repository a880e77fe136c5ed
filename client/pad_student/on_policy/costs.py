"""The costs of training: wall seconds by phase on both sides, and the teacher's tokens."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from pad_student.teacher.requests.busy import Now


@runtime_checkable
class Meter(Protocol):
    """A teacher that counts its work since its start, as ``pad_student.Teacher`` does."""

    @property
    def tokens_scored(self) -> int:
        """Tokens scored."""
        ...

    @property
    def busy_seconds(self) -> float:
        """Seconds in which sets were on their way."""
        ...


class Costs:
    """Adds up costs between calls of ``take``.

    Invariants:
        - Phases do not overlap: one within another interrupts it. Time outside of all counts as ``trained``.
        - The student's seconds add up to the time that passed, and so do the teacher's.

    Args:
        teacher: its work is counted too; None if nothing is scored.
        now: a clock in seconds.
    """

    def __init__(self, teacher: Meter | None = None, now: Now = time.monotonic) -> None:
        self._teacher = teacher
        self._now = now
        self._began: float | None = None
        self._open: tuple[str, float] | None = None
        self._tokens_then, self._busy_then = 0, 0.0
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._total: defaultdict[str, float] = defaultdict(float)

    @property
    def counting(self) -> bool:
        """Whether ``begin`` has been called."""
        return self._began is not None

    def begin(self) -> None:
        """Count from now on."""
        self._began = self._now()
        if self._teacher:
            self._tokens_then, self._busy_then = self._teacher.tokens_scored, self._teacher.busy_seconds
        self._spent.clear()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's wall seconds under ``name``."""
        outer, began = self._open, self._now()
        if outer:
            self._spent[outer[0]] += began - outer[1]
        self._open = (name, began)
        try:
            yield
        finally:
            ended = self._now()
            self._spent[name] += ended - began
            self._open = (outer[0], ended) if outer else None

    def open(self) -> dict[str, float]:
        """The seconds by phase since the last ``take`` or ``begin``, with those of a phase that has not ended."""
        now, spent, unfinished = self._now(), dict(self._spent), self._open
        if unfinished:
            spent[unfinished[0]] = spent.get(unfinished[0], 0.0) + now - unfinished[1]
        passed = 0.0 if self._began is None else now - self._began
        return spent | {"trained": max(0.0, passed - sum(spent.values()))}

    def take(self) -> dict[str, float]:
        """The costs since the last call or ``begin``.

        Returns:
            ``seconds/NAME`` for every phase of the student, and for the teacher ``teacher_seconds/scored``,
            ``teacher_seconds/waited_for_student`` and ``teacher_tokens``.
        """
        now, spent = self._now(), dict(self._spent)
        passed = 0.0 if self._began is None else now - self._began
        spent["trained"] = passed - sum(spent.values())
        tokens_then, busy_then = self._tokens_then, self._busy_then
        self.begin()
        for name, seconds in spent.items():
            self._total[name] += seconds
        costs = {f"seconds/{name}": seconds for name, seconds in spent.items()}
        if self._teacher:
            scored = self._busy_then - busy_then
            costs["teacher_seconds/scored"] = scored
            costs["teacher_seconds/waited_for_student"] = max(0.0, passed - scored)  # clocks are read in turn
            costs["teacher_tokens"] = self._tokens_then - tokens_then
        return costs

    def share(self, name: str) -> float | None:
        """The phase's share of all seconds taken so far; None if there are none, or no such phase."""
        total = sum(self._total.values())
        return self._total[name] / total if name in self._total and total else None
