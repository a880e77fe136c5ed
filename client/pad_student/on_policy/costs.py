"""What training costs: wall seconds by phase on both sides, and the teacher's tokens."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from pad_student.teacher.busy import Now


@runtime_checkable
class Meter(Protocol):
    """A teacher that counts its work, in all so far: ``pad_student.Teacher`` does."""

    @property
    def tokens_scored(self) -> int:
        """Tokens scored."""
        ...

    @property
    def busy_seconds(self) -> float:
        """Seconds in which sets were on their way."""
        ...


class Costs:
    """Adds up what was spent since the last ``take``; phases do not overlap, and what none names is ``trained``.

    Args:
        teacher: whose work is counted beside the student's; None where nothing is scored.
        now: seconds, from anywhere.
    """

    def __init__(self, teacher: Meter | None = None, now: Now = time.monotonic) -> None:
        self._teacher = teacher
        self._now = now
        self._began: float | None = None
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
        began = self._now()
        try:
            yield
        finally:
            self._spent[name] += self._now() - began

    def take(self) -> dict[str, float]:
        """What was spent since the last call or ``begin``.

        Returns:
            ``seconds/NAME`` of every phase of the student, which add up to the time that went by; of the teacher
            ``teacher_seconds/scored`` and ``teacher_seconds/waited_for_student``, which do so too, and
            ``teacher_tokens``.
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
            costs["teacher_seconds/waited_for_student"] = max(0.0, passed - scored)  # read a moment apart
            costs["teacher_tokens"] = self._tokens_then - tokens_then
        return costs

    def share(self, name: str) -> float | None:
        """The part of all seconds taken that went into a phase; None before there are any, or without the phase."""
        total = sum(self._total.values())
        return self._total[name] / total if name in self._total and total else None
