"""The status line on standard error: it moves by the clock, and without a terminal it is a line every few seconds."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from pad_student.storage.terminal.phases import Now, Phase, Steps
from pad_student.storage.terminal.screen import Screen

TICK = 0.4  # seconds between two looks at the clock
SHOWN_AFTER = 0.5  # seconds: a command that is done before shows no status line
LINE_EVERY = 5.0  # seconds, if there is no terminal; a long run gets a line for each hundredth of its time so far
LINE_AT_LEAST_EVERY = 60.0
SLOW_STEP = 60.0  # seconds


class Status:
    """The one owner of the terminal: what is done at present, the run's steps, and lines above both.

    Invariants:
        - Between ``show`` and ``hide`` the line changes at least once a second, whatever the main thread does.
        - A text that anybody prints meanwhile stands above the line; see ``Screen``.
        - Standard output gets nothing from here.

    Phases are opened in the main thread. ``say`` may be called from any thread, and not from a signal's handler.
    ``stop_asked`` tells that Ctrl-C was pressed; ``alone`` that no other process of the run would wait for this one;
    ``ends_with_command`` that the process is a command, which may exit. ``steps`` are the run's, if it has any.
    Once ``silent`` is set, nothing is shown but what is said.

    Args:
        stream: by default standard error at the time of ``show``.
        now: a clock in seconds.
    """

    def __init__(self, stream: TextIO | None = None, now: Now = time.monotonic) -> None:
        self._given, self._now = stream, now
        self._phases: list[Phase] = []
        self.steps: Steps | None = None
        self._screen: Screen | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._began = self._said_at = 0.0
        self._explain: Callable[[], str] | None = None
        self.silent = False
        self.stop_asked = False
        self.alone = True
        self.ends_with_command = False

    @property
    def shown(self) -> bool:
        """Whether the line is shown at present."""
        return self._thread is not None

    @property
    def current(self) -> Phase | None:
        """The innermost phase."""
        return next(reversed(self._phases), None)

    @contextmanager
    def phase(
        self, name: str, total: int | None = None, done: int = 0, *, stops_at_once: bool = False, shows: bool = False
    ) -> Iterator[Phase]:
        """Name the work of the block.

        Args:
            name: as in ``sampling``.
            total: units of work, which ``update`` of the yielded phase counts.
            done: units that an earlier start did.
            stops_at_once: whether Ctrl-C may end the block in its middle.
            shows: whether the line is shown for the block if nobody shows it.

        Raises:
            KeyboardInterrupt: the block may be stopped, and Ctrl-C was pressed before.
        """
        self._phases.append(phase := Phase(name, total, done, stops_at_once=stops_at_once, now=self._now))
        hides = shows and not self.shown
        try:
            if shows:
                self.show()
            if stops_at_once and self.stop_asked and self.alone:
                raise KeyboardInterrupt
            yield phase
        finally:
            self._phases.remove(phase)
            if hides:
                self.hide()

    def begin_steps(self, done: int, total: int, explain: Callable[[], str] | None = None) -> Steps:
        """Show the run's steps; ``explain`` gives a line about a step of more than a minute, at most once."""
        self._explain = explain
        self.steps = Steps(done, total, self._now)
        return self.steps

    def end_steps(self) -> None:
        """Leave the steps' last line above, and show phases alone."""
        steps, self.steps = self.steps, None
        if steps and self.shown:
            self.say(f"{steps} {steps.facts()}".rstrip())

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the line for the length of a command, unless somebody shows it already."""
        if self.shown:
            yield
            return
        self.ends_with_command = True
        self.show()
        try:
            yield
        finally:
            self.hide()
            self.ends_with_command = False

    def show(self) -> None:
        """Show the line from now on, in the first of a run's processes."""
        if self.shown or self.silent or not speaks_for_all():
            return
        self._began = self._said_at = self._now()
        self._ended = threading.Event()
        self._screen = Screen(self._given or sys.stderr)
        self._thread = threading.Thread(
            target=self._tick, args=(self._screen, self._ended), name="status", daemon=True
        )
        self._thread.start()

    def hide(self) -> None:
        """Remove the line; texts that were printed stay."""
        if not self.shown:
            return
        self._ended.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None
        if self._screen:
            self._screen.close()
            self._screen = None

    def say(self, text: str) -> None:
        """Print one line above the status line."""
        if self._screen:
            self._screen.write(f"{text}\n")
        else:
            print(text, file=self._given or sys.stderr, flush=True)

    def line(self) -> str:
        """The status in one line without a bar, as a log file gets it; empty if nothing is done."""
        phase, steps = self.current, self.steps
        if steps is None:
            return f"{phase}{phase.left()}" if phase else ""
        words = [f"{steps} {steps.facts()}".rstrip()]
        return ", ".join([*words, *([str(phase)] if phase and steps.done < steps.total else [])])

    def _tick(self, screen: Screen, ended: threading.Event) -> None:
        while not ended.wait(TICK):
            now, steps = self._now(), self.steps
            if now - self._began < SHOWN_AFTER:
                continue
            if self._explain and steps and steps.this_step_seconds > SLOW_STEP:
                explain, self._explain = self._explain, None
                screen.write(f"{explain()}\n")
            if screen.draws:
                screen.draw(self.line(), steps, self.current)
            every = min(LINE_AT_LEAST_EVERY, max(LINE_EVERY, (now - self._began) / 100))
            if not screen.draws and now - self._said_at >= every and (line := self.line()):
                self._said_at = now
                screen.write(f"{line}\n")


def speaks_for_all() -> bool:
    """Whether this process is the first of its run, as its launcher says: torch may not be imported yet."""
    return os.environ.get("RANK", "0") == "0"


STATUS = Status()
