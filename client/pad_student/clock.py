"""Where a run's seconds go: the student samples, trains or waits; the teacher scores or waits."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

Now = Callable[[], float]


class Busy:
    """Seconds in which at least one of several threads was inside; thread-safe."""

    def __init__(self, now: Now = time.monotonic) -> None:
        self._now = now
        self._lock = Lock()
        self._inside = 0
        self._since = 0.0
        self._seconds = 0.0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Count the time of this block, once however many are inside."""
        with self._lock:
            if not self._inside:
                self._since = self._now()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._seconds += self._now() - self._since

    @property
    def seconds(self) -> float:
        """In all so far, with the time that has not ended yet."""
        with self._lock:
            return self._seconds + (self._now() - self._since if self._inside else 0.0)


class Clock:
    """Seconds between two readings: both sides' add up to the time that went by.

    Args:
        teacher_busy: seconds in all so far in which the teacher had work.
        now: seconds.
    """

    def __init__(self, teacher_busy: Callable[[], float], now: Now = time.monotonic) -> None:
        self._now = now
        self._teacher_busy = teacher_busy
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._read_at, self._busy_then = now(), teacher_busy()

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Count the time of this block as ``sampled`` or ``waited_for_teacher``."""
        begin = self._now()
        try:
            yield
        finally:
            self._spent[name] += self._now() - begin

    def read(self) -> dict[str, float]:
        """Seconds since the last reading: the student sampled, waited, and trained (all else); the teacher scored."""
        now, busy = self._now(), self._teacher_busy()
        passed, scored = now - self._read_at, busy - self._busy_then
        sampled, waited = self._spent["sampled"], self._spent["waited_for_teacher"]
        self._spent.clear()
        self._read_at, self._busy_then = now, busy
        return {
            "seconds/sampled": sampled,
            "seconds/trained": passed - sampled - waited,
            "seconds/waited_for_teacher": waited,
            "seconds/scored": scored,
            "seconds/waited_for_student": max(0.0, passed - scored),
        }
