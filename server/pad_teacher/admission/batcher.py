"""The loop between queue and engine: takes batches, has them computed, and gives the results to their requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from pad_teacher.admission.engine_runner import EngineRunner
from pad_teacher.admission.queue import AdmissionQueue, engine_failed
from pad_teacher.admission.request import PendingRequest, QueuedUnit
from pad_teacher.cache.in_flight import Unit
from pad_teacher.engines.base import RowTooLarge
from pad_teacher.engines.queries import Answer
from pad_teacher.errors import Refusal

ANSWERS_A_STEP = 512  # results handed out in one step of the event loop
CHECK_SECONDS = 0.25  # between checks that an idle engine still lives


class Batcher:
    """Feeds one engine from one queue. Belongs to the event loop.

    - A batch is taken only when the engine has a slot for it, so requests that arrive meanwhile share in it.
    - A unit is computed if any request waits for it, not only the request whose turn it was.
    - Every admitted request ends: with its results, with a refusal, or because its client left.
    - If one row is too large for the device, the other units of its batch are computed without it.
    - If one unit gets no answer, those who wait for it are refused, and the others of its batch have theirs.
    - After the first error of the engine nothing is computed, and all that waits is refused.
    """

    def __init__(
        self,
        queue: AdmissionQueue,
        runner: EngineRunner,
        *,
        keep: Callable[[list[Unit]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Begin to serve.

        Args:
            queue: the requests to serve.
            runner: computes the batches.
            keep: called with the units of each computed batch.
            on_failure: called with the engine's error, once.
        """
        self.queue = queue
        self._runner = runner
        self._keep = keep
        self._on_failure = on_failure
        self._slots = asyncio.Semaphore(runner.concurrent_batches)
        self._running: set[asyncio.Task[None]] = set()
        self._failed = False
        self._loops = [
            asyncio.create_task(self._or_fail(self._serve), name="batcher"),
            asyncio.create_task(self._or_fail(self._watch), name="engine watch"),
        ]

    async def submit(
        self, request: PendingRequest, deadline: float | None, first: PendingRequest | None = None
    ) -> None:
        """Wait until ``request`` has all its results.

        Units that have not begun by ``deadline``, on ``time.monotonic``'s clock, are dropped. A later part of
        ``first`` is admitted with the tokens that ``first`` has reserved.

        Raises:
            Refusal: ``overloaded``, ``budget_exceeded``, ``quota_exceeded``, ``too_long``, ``deadline_exceeded`` or
                ``engine_failed``.
        """
        if not request.results:  # all results were in the cache
            return
        if first is not None and first.done is not None:
            done = self.queue.admit_further(request, first)
        else:
            done = self.queue.admit(request, deadline)
        reason: str | None = "client_left"
        try:
            async with asyncio.timeout_at(_on_loop_clock(deadline)):
                await done
            reason = None  # other requests paid for the units that still wait
        except TimeoutError:
            reason = "deadline"
            raise Refusal("deadline_exceeded", "the deadline passed before the teacher was done") from None
        except Refusal:
            reason = "failed"
            raise
        finally:
            self.queue.withdraw(request, reason)

    async def close(self) -> None:
        """Stop feeding the engine, and wait for the batches that run."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, *self._running, return_exceptions=True)
        await self._runner.close()

    async def _serve(self) -> None:
        while True:
            await self._slots.acquire()
            # No variable holds the batch: new requests join a unit for as long as anything refers to it.
            self._begin(await self.queue.next_batch())

    def _begin(self, batch: list[QueuedUnit]) -> None:
        paying = [queued for queued in batch if queued.pays]
        running = asyncio.create_task(self._or_fail(partial(self._run, paying), batch))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        running.add_done_callback(lambda _: self._slots.release())

    async def _watch(self) -> None:
        """Notice an engine that dies while nothing is asked of it."""
        while not self._failed:
            await asyncio.sleep(CHECK_SECONDS)
            self._runner.check()

    async def _or_fail(self, step: Callable[[], Awaitable[None]], batch: Sequence[QueuedUnit] = ()) -> None:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - the engine died, or a fault of ours: nobody is left waiting
            self._fail(batch, error)

    async def _run(self, batch: list[QueuedUnit]) -> None:
        """Compute the units of a batch; if one row is too large for the device, compute each unit alone."""
        batch = _wanted(batch, self.queue)
        if self._failed:
            self._drop(batch, engine_failed())
            return
        if not batch:
            return
        answers: Sequence[Answer | Refusal] | None = None
        try:
            answers = await self._runner.run([queued.unit.query for queued in batch])
        except RowTooLarge as error:
            if len(batch) == 1:
                self._drop(batch, Refusal("too_long", str(error)))
                return
        except Exception as error:  # noqa: BLE001 - whatever the runtime raised, it is not to be trusted again
            self._fail(batch, error)
            return
        if answers is None:  # outside the handler, whose traceback would hold the failed batch's memory
            for queued in batch:
                await self._run([queued])
            return
        units: list[Unit] = []
        for queued, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Refusal):
                self._drop([queued], answer)
            else:
                queued.unit.result = answer
                units.append(queued.unit)
        self._keep(units)
        await _hand_out(units)

    def _drop(self, batch: Sequence[QueuedUnit], refusal: Refusal) -> None:
        for queued in batch:
            queued.unit.fail(refusal)
            self.queue.give_back(queued.request, queued.unit.query.cost, "failed")

    def _fail(self, batch: Sequence[QueuedUnit], error: BaseException) -> None:
        """Refuse ``batch`` and all that waits; the engine is not to be trusted again."""
        first, self._failed = not self._failed, True
        self.queue.close()
        batch = batch or self.queue.take_batch()  # empty if the engine died while it was idle
        while batch:
            self._drop([queued for queued in batch if queued.pays], engine_failed())
            batch = self.queue.take_batch()
        if first:
            self._on_failure(error)


def _wanted(batch: list[QueuedUnit], queue: AdmissionQueue) -> list[QueuedUnit]:
    """The units of a batch that a request still waits for; the others are unclaimed, their tokens returned."""
    wanted: list[QueuedUnit] = []
    for queued in batch:
        if queued.unit.wanted:
            wanted.append(queued)
        else:
            queued.unit.unclaim()
            queue.give_back(queued.request, queued.unit.query.cost, "client_left")
    return wanted


async def _hand_out(units: list[Unit]) -> None:
    """Give the results of ``units`` to all requests that wait for them."""
    answered = 0
    for unit in units:
        if unit.result is None:
            continue
        for waiter, index in tuple(unit.waiters):
            waiter.answer(index, unit.result)
            answered += 1
            if answered % ANSWERS_A_STEP == 0:  # many requests may wait for the same unit
                await asyncio.sleep(0)


def _on_loop_clock(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
