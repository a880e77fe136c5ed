"""A clock of the seconds in which at least one thread was at work."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

Now = Callable[[], float]


class Busy:
    """Counts the seconds in which at least one thread was inside; thread-safe.

    Args:
        now: a clock in seconds.
    """

    def __init__(self, now: Now = time.monotonic) -> None:
        self._now = now
        self._lock = Lock()
        self._inside = 0
        self._since = 0.0
        self._seconds = 0.0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Count the block's time; the time of overlapping blocks is counted once."""
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
        """The seconds so far, those of blocks that have not ended included."""
        with self._lock:
            return self._seconds + (self._now() - self._since if self._inside else 0.0)
