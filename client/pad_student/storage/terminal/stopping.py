"""Ctrl-C and SIGTERM, answered at once: in a thread, because the main thread may be in a library's long call."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from pad_student.storage.terminal.phases import clock
from pad_student.storage.terminal.status import Status

CAUGHT = (signal.SIGINT, signal.SIGTERM)
GRACE = 1.0  # seconds that the process has to end by itself after a second signal
PATIENCE = 0.1
INTERRUPTED = 130  # exit status


class StopSignals:
    """Hears signals from ``start`` to ``stop``, and answers each of them with one line.

    The first one asks to stop: at once if the present phase allows that, else at the end of the step. The handlers
    from before are back after it, so the second one ends the process.

    Invariants:
        - Handlers are installed in the main thread only, as Python asks; elsewhere nothing is heard.
        - ``stop`` puts everything back.

    Args:
        status: knows the present phase, prints the answers and keeps ``stop_asked``.
        alone: whether the run has no other processes, which would wait for this one for ever.
        speaks: whether this process prints.
        exits: whether a second signal ends the process, ``GRACE`` seconds later if it has not ended by itself:
            whichever thread is stuck.
    """

    def __init__(self, status: Status, *, alone: bool = True, speaks: bool = True, exits: bool = True) -> None:
        self._status, self._speaks, self._exits = status, speaks, exits
        status.alone = alone
        self._before: dict[signal.Signals, Any] = {}
        self._ears: tuple[int, int] | None = None
        self._fd_before = -1
        self._reached = threading.Event()
        self._why = ""

    def start(self) -> None:
        """Hear from now on; nothing was asked so far."""
        self._status.stop_asked = False
        self._reached.clear()
        if threading.current_thread() is not threading.main_thread() or self._ears:
            return
        self._ears = os.pipe()
        os.set_blocking(self._ears[1], False)
        self._before = {caught: signal.signal(caught, self._ask) for caught in CAUGHT}
        self._fd_before = signal.set_wakeup_fd(self._ears[1], warn_on_full_buffer=False)
        _in_thread(partial(self._listen, self._ears[0]))

    def stop(self) -> None:
        """Hear nothing more."""
        self._put_handlers_back()
        if self._ears:
            signal.set_wakeup_fd(self._fd_before)
            ears, self._ears = self._ears, None
            os.close(ears[1])  # which ends the thread

    def _put_handlers_back(self) -> None:
        for caught, handler in self._before.items():
            signal.signal(caught, handler)
        self._before = {}

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self._put_handlers_back()
        self._why = why_not_yet(self._status)  # as it is now: the phase may end before the answer is printed
        self._reached.set()
        self._status.stop_asked = True
        phase = self._status.current
        if self._status.alone and phase and phase.stops_at_once:
            raise KeyboardInterrupt

    def _listen(self, ear: int) -> None:
        heard = 0
        while signals := os.read(ear, 16):
            for each in signals:
                if each not in CAUGHT:
                    continue
                heard += 1
                if heard == 2 and self._exits:
                    _in_thread(self._end)
                if self._speaks:  # in a thread of its own: the terminal may be stopped
                    _in_thread(self._answer_first if heard == 1 else self._answer_again)
        os.close(ear)

    def _answer_first(self) -> None:
        reached = self._reached.wait(PATIENCE)  # not if the main thread is in a long call
        self._status.say(self._why if reached else why_not_yet(self._status))

    def _answer_again(self) -> None:
        self._status.say("stopping now")

    def _end(self) -> None:
        time.sleep(GRACE)
        _in_thread(self._status.hide).join(PATIENCE)  # not if another thread is stuck while it draws
        os._exit(INTERRUPTED)


def _in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="signals", daemon=True)
    thread.start()
    return thread


def why_not_yet(status: Status) -> str:
    """One line about a run that was asked to stop: the work that it still does, for how long, and how to end that."""
    again = "Ctrl-C again stops now, and loses the steps since the last checkpoint"
    phase, steps = status.current, status.steps
    if status.alone and phase and phase.stops_at_once:
        return f"stopping while {phase.name}: finished steps are saved first. {again}"
    doing = f" ({phase})" if phase else ""
    if steps is None:
        return f"stopping after {phase.name if phase else 'this'}. {again}"
    a_step = steps.seconds_a_step
    left = f", in about {clock(max(1.0, a_step - steps.this_step_seconds))}" if a_step else ""
    return f"stopping after step {steps.done + 1}{doing}{left}, with a checkpoint. {again}"
