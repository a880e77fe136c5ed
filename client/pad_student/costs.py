"""What training costs: wall seconds by phase, and the teacher's tokens."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Costs:
    """Adds up what was spent since the last ``take``; phases do not overlap, and what none names is ``trained``.

    Args:
        teacher_tokens: tokens that the teacher has scored so far; without it they are not counted.
        clock: seconds, from anywhere.
    """

    def __init__(
        self, teacher_tokens: Callable[[], int] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = teacher_tokens
        self._clock = clock
        self._began: float | None = None
        self._tokens_before = 0
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._total: defaultdict[str, float] = defaultdict(float)

    @property
    def counting(self) -> bool:
        """Whether ``begin`` has been called."""
        return self._began is not None

    def begin(self) -> None:
        """Count from now on."""
        self._began = self._clock()
        self._tokens_before = self._tokens() if self._tokens else 0
        self._spent.clear()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's wall seconds under ``name``."""
        began = self._clock()
        try:
            yield
        finally:
            self._spent[name] += self._clock() - began

    def take(self) -> dict[str, float]:
        """``seconds/NAME`` of every phase, and ``teacher_tokens``, since the last call or ``begin``."""
        now, tokens_before, spent = self._clock(), self._tokens_before, dict(self._spent)
        spent["trained"] = now - (now if self._began is None else self._began) - sum(spent.values())
        self.begin()
        for name, seconds in spent.items():
            self._total[name] += seconds
        counted = {"teacher_tokens": self._tokens_before - tokens_before} if self._tokens else {}
        return {f"seconds/{name}": seconds for name, seconds in spent.items()} | counted

    def share(self, name: str) -> float | None:
        """The part of all seconds taken that went into a phase; None before there are any, or without the phase."""
        total = sum(self._total.values())
        return self._total[name] / total if name in self._total and total else None
