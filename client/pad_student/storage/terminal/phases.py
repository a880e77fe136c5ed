"""The phases of a command and the steps of a run, as the few words that a status line has room for."""

import time
from collections.abc import Callable, Mapping

Now = Callable[[], float]


class Phase:
    """One kind of work, how much of it is done, and for how long it has lasted.

    Args:
        name: as in ``sampling``.
        total: units of work; None if there are none to count.
        done: units that an earlier start did.
        stops_at_once: whether Ctrl-C may end it in its middle.
        now: a clock in seconds.
    """

    def __init__(
        self,
        name: str,
        total: int | None = None,
        done: int = 0,
        *,
        stops_at_once: bool = False,
        now: Now = time.monotonic,
    ) -> None:
        self.name, self.total, self.done = name, total, done
        self.stops_at_once = stops_at_once
        self.partly = 0  # units that are done within a batch of which nothing is counted yet
        self._now, self._began, self._done_before = now, now(), done

    def update(self, count: int = 1) -> None:
        """Count ``count`` more units as done."""
        self.done, self.partly = self.done + count, 0

    def restart(self, name: str) -> None:
        """Begin again with nothing done, under another name."""
        self.name, self._began, self.done, self._done_before = name, self._now(), 0, 0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._now() - self._began

    def __str__(self) -> str:
        counted = f" {self.done + self.partly}/{self.total}" if self.total else ""
        return f"{self.name}{counted} {clock(self.seconds)}"

    def left(self) -> str:
        """The remaining time as in `` eta 0:31``; empty if that is not known."""
        done = self.done - self._done_before
        if not self.total or not done:
            return ""
        return f" eta {clock(self.seconds / done * (self.total - self.done))}"


class Steps:
    """The optimiser steps of a run, timed from the first ``begin`` on: earlier work tells nothing about them.

    Args:
        done: of an earlier start.
        total: the last step.
        now: a clock in seconds.
    """

    def __init__(self, done: int, total: int, now: Now = time.monotonic) -> None:
        self.done, self.total = done, total
        self.figures: Mapping[str, str] = {}  # replaced and never changed: another thread draws them
        self._now, self._began_at = now, done
        self._began: float | None = None
        self._last: float | None = None

    def note(self, figures: Mapping[str, str]) -> None:
        """Show these figures from now on, next to the others."""
        self.figures = {**self.figures, **figures}

    def begin(self) -> None:
        """A step begins."""
        self._last = self._now()
        self._began = self._last if self._began is None else self._began

    def end(self) -> None:
        """A step ended."""
        self.done += 1

    @property
    def this_step_seconds(self) -> float:
        """Since the present step began; 0 before the first one."""
        return 0.0 if self._last is None else self._now() - self._last

    @property
    def seconds_a_step(self) -> float | None:
        """Mean of the steps that are done since ``begin``; None before."""
        if self._began is None or self._last is None or self.done == self._began_at:
            return None
        return (self._last - self._began) / (self.done - self._began_at) or None

    @property
    def left(self) -> float | None:
        """Seconds to the end; None before a step is done."""
        if (a_step := self.seconds_a_step) is None:
            return None
        return max(0.0, a_step * (self.total - self.done) - min(a_step, self.this_step_seconds))

    def __str__(self) -> str:
        return f"step {self.done}/{self.total}"

    def facts(self) -> str:
        """The newest figures and the remaining time, as in ``loss 0.254 agree 0.75 eta 0:31``."""
        words = [f"{name} {value}" for name, value in self.figures.items()]
        if self.left is not None and self.done < self.total:
            words.append(f"eta {clock(self.left)}")
        return " ".join(words)


def clock(seconds: float) -> str:
    """Seconds as 0:31, 1:02:03 or 2d 4:05:06."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}:{minutes:02}:{whole % 60:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
