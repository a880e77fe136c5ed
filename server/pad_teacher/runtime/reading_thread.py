"""The thread that reads requests and writes replies, so that the event loop does neither: in turns, by owner."""

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition
from typing import Any, ParamSpec, TypeAlias, TypeVar

from pad_teacher.runtime.refused_time import RefusedTime
from pad_teacher.runtime.turns import Turns

T = TypeVar("T")
P = ParamSpec("P")

Steps: TypeAlias = Generator[None, None, T]
"""Work in steps: it yields wherever another owner's work may go on, and returns its result."""

TURN_SECONDS = 0.004  # an owner keeps the thread for this long, and then to the end of a step


@dataclass(slots=True)
class Stopwatch:
    """The thread's seconds that went into some works."""

    seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Work:
    """Steps that an owner has the thread do. ``done`` is not set running, so it can be cancelled at any time."""

    weight: float
    steps: Steps[Any]
    done: Future[Any]
    spent: "Stopwatch"

    def go_on(self) -> bool:
        """Do the steps of one turn; returns whether these were the last."""
        end = time.monotonic() + TURN_SECONDS
        if self.done.cancelled():
            self.steps.close()
            return True
        try:
            while time.monotonic() < end:
                next(self.steps)
        except StopIteration as last:
            if self.done.set_running_or_notify_cancel():
                self.done.set_result(last.value)
            return True
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            if self.done.set_running_or_notify_cancel():
                self.done.set_exception(error)
            return True
        return False


class ReadingThread:
    """Does the work of all owners (a key, or a job if there are no keys), in turns of a few milliseconds.

    - The owner that has used the least of the thread's time for its weight has the next turn.
    - The works of one owner are done one after the other, in the order in which they came.
    - An owner whose work was refused, again and again, has a small share of the thread for a while: see
      ``RefusedTime``.
    - Calls of the service itself take their place among the turns as they come.

    It is a single thread, because a Hugging Face tokenizer must not be called from two threads at the same time.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._turns: Turns[_Work] = Turns()
        self._refused = RefusedTime()
        self._turn_waits = False  # in the executor, among the calls; never more than one
        self._lock = Condition()  # of all this: works arrive from the event loop; notified when there is more to do

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call of the service's own in the thread, and return its result."""
        done = self._thread.submit(call, *args, **kwargs)
        self._wake()
        return await asyncio.wrap_future(done)

    def run_later(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make a call of the service's own; nobody waits for it. After ``close`` nothing is called."""
        with suppress(RuntimeError):  # the executor is shut down
            self._thread.submit(call, *args, **kwargs)
        self._wake()

    async def work(self, owner: str, weight: float, steps: Steps[T], spent: Stopwatch | None = None) -> T:
        """Do the steps in turns of the owner, and return their result; if nobody waits any more, they are closed.

        ``spent`` counts the seconds that they took.
        """
        return await asyncio.wrap_future(self.work_later(owner, weight, steps, spent))

    def work_later(self, owner: str, weight: float, steps: Steps[T], spent: Stopwatch | None = None) -> "Future[T]":
        """Do the steps in turns of the owner. After ``close`` nothing is done."""
        work = _Work(weight, steps, Future(), spent or Stopwatch())
        with self._lock:
            self._turns.add(owner, weight, work)
            self._let_turn_wait()
        return work.done

    @property
    def has_work(self) -> bool:
        """Whether an owner's work waits."""
        with self._lock:
            return bool(self._turns)

    def refused(self, owner: str, seconds: float) -> None:
        """Count so many seconds of the thread as work of the owner that came to nothing by its own fault."""
        with self._lock:
            self._refused.add(owner, seconds, time.monotonic())

    def close(self) -> None:
        """Drop the work and the calls that have not begun, and do not wait for the one that runs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        with self._lock:
            self._lock.notify()

    def _let_turn_wait(self) -> None:
        """Let a turn wait in the executor after the calls that are there; the lock is held."""
        if not self._turn_waits:
            self._turn_waits = True
            self.run_later(self._turn)
        self._lock.notify()

    def _turn(self) -> None:
        """One turn, or a wait until somebody may have one; it ends early if there is more to do."""
        with self._lock:
            self._turn_waits = False
            pause = self._turns.seconds_to_next(time.monotonic())
            if pause:
                self._lock.wait(pause)
                self._let_turn_wait()
                return
            owner, work = self._turns.take(time.monotonic())
        began = time.monotonic()
        ended = work.go_on()
        with self._lock:
            now = time.monotonic()
            work.spent.seconds += now - began
            self._turns.charge(owner, work.weight, now - began)
            if not ended:
                self._turns.add(owner, work.weight, work, first=True)
            if pause := self._refused.pause_after(owner, now - began, now):
                self._turns.pause(owner, pause, now)
            if self._turns:
                self._let_turn_wait()
