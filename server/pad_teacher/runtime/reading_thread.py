"""The thread that reads requests and writes replies, so that the event loop does neither: in turns, by owner."""

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, ParamSpec, TypeAlias, TypeVar

from pad_teacher.runtime.turns import Turns

T = TypeVar("T")
P = ParamSpec("P")

Steps: TypeAlias = Generator[None, None, T]
"""Work in steps: it yields wherever another owner's work may go on, and returns its result."""

TURN_SECONDS = 0.004  # an owner keeps the thread for this long, and then to the end of a step


@dataclass(slots=True, eq=False)
class _Work:
    """Steps that an owner has the thread do. ``done`` is not set running, so it can be cancelled at any time."""

    weight: float
    steps: Steps[Any]
    done: Future[Any]

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
    - Calls of the service itself take their place among the turns as they come.

    It is a single thread, because a Hugging Face tokenizer must not be called from two threads at the same time.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._turns: Turns[_Work] = Turns()
        self._lock = Lock()  # of the turns: works arrive from the event loop

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call of the service's own in the thread, and return its result."""
        return await asyncio.wrap_future(self._thread.submit(call, *args, **kwargs))

    def run_later(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make a call of the service's own; nobody waits for it. After ``close`` nothing is called."""
        with suppress(RuntimeError):  # the executor is shut down
            self._thread.submit(call, *args, **kwargs)

    async def work(self, owner: str, weight: float, steps: Steps[T]) -> T:
        """Do the steps in turns of the owner, and return their result; if nobody waits any more, they are closed."""
        return await asyncio.wrap_future(self.work_later(owner, weight, steps))

    def work_later(self, owner: str, weight: float, steps: Steps[T]) -> "Future[T]":
        """Do the steps in turns of the owner. After ``close`` nothing is done."""
        work = _Work(weight, steps, Future())
        with self._lock:
            self._turns.add(owner, weight, work)
        self.run_later(self._turn)
        return work.done

    def close(self) -> None:
        """Drop the work and the calls that have not begun, and do not wait for the one that runs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        """One turn. As many turns are waiting in the executor as there are works."""
        with self._lock:
            owner, work = self._turns.take()
        began = time.monotonic()
        ended = work.go_on()
        with self._lock:
            self._turns.charge(owner, work.weight, time.monotonic() - began)
            if not ended:
                self._turns.add(owner, work.weight, work, first=True)
        if not ended:
            self.run_later(self._turn)
