"""Admission and batching: requests of several clients share the engine, a token budget at a time."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

from pad_teacher.engine import Answer, Engine, RowTooLarge
from pad_teacher.errors import Refusal
from pad_teacher.fair_queue import FairQueue, Group
from pad_teacher.in_flight import Unit
from pad_teacher.metrics import Metrics

ANSWERED = 512  # requests answered in one step of the event loop
_NOT_YET: Answer = []


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the name of the key (empty without keys) and the job it names."""

    key: str
    job: str


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request's place in the queue for a unit of work, and which of its results that is."""

    request: "Request"
    index: int
    unit: Unit


class Request:
    """All that one client waits for. Made off the event loop, where thousands of units are one thing from then on."""

    def __init__(self, client: Client, units: Sequence[Unit]) -> None:
        self.client = client
        self.owner = client.key or client.job  # whose share of the queue it counts against
        self.group = Group.of((_Ticket(self, index, unit), unit.work.cost) for index, unit in enumerate(units))
        self.results = [_NOT_YET] * len(units)
        self.done: asyncio.Future[None] | None = None  # set once it is admitted
        self._missing = len(units)
        for index, unit in enumerate(units):
            unit.waiters.append((self, index))

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return self.done is not None and not self.done.done()

    def answer(self, index: int, result: Answer) -> None:
        """Take one unit's result, unless it is there already; the last one ends the wait."""
        if self.done is None or self.done.done() or self.results[index] is not _NOT_YET:
            return
        self.results[index] = result
        self._missing -= 1
        if not self._missing:
            self.done.set_result(None)

    def fail(self, refusal: Refusal) -> None:
        """End the wait, unless it has ended."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(refusal)
            self.done.exception()  # read, so that it is not reported as lost where nobody waits any more


class Batcher:
    """Feeds one engine from one thread. Lives on the event loop; only ``run`` leaves it."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        *,
        max_batch_tokens: int,
        max_queued_tokens: int,
        keep: Callable[[list[Unit]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_tokens = max_queued_tokens
        self._keep = keep
        self._on_failure = on_failure
        self._queue: FairQueue[_Ticket] = FairQueue(lambda ticket: ticket.unit.claim())
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._tokens_a_second = float(max_batch_tokens)
        self._held: Counter[str] = Counter()  # waiting tokens of each owner that has any
        self._failed = False
        self._loop = asyncio.create_task(self._serve(), name="batcher")

    async def submit(self, request: Request, deadline: float | None) -> None:
        """Wait until ``request`` has all its results.

        Args:
            request: what to compute, and for whom.
            deadline: on ``time.monotonic``'s clock; work not yet begun by then is dropped.

        Raises:
            Refusal: ``overloaded``, ``too_long``, ``deadline_exceeded`` or ``engine_failed``.
        """
        if not request.results:  # all that it asks is known
            return
        done = self._admit(request, deadline)
        try:
            async with asyncio.timeout_at(_on_loop_clock(deadline)):
                await done
        except TimeoutError:
            raise Refusal("deadline_exceeded", "the deadline passed before the teacher was done") from None
        finally:
            # With work left over only where the client left, the deadline passed or one part failed.
            self._release(request.owner, self._queue.discard(request.client.key, request.client.job, request.group))

    def refuse_if_full(self, client: Client, cost: int = 1) -> None:
        """Refuse what finds no place: a full queue still has room for whoever holds less than an equal share of it.

        Raises:
            Refusal: ``overloaded``, with how long the waiting work is expected to take.
        """
        owner = client.key or client.job
        share = self._max_queued_tokens / (len(self._held) + (owner not in self._held))
        if self._queue.tokens + cost > self._max_queued_tokens and self._held[owner] + cost > share:
            wait = min(60, max(1, ceil(self._queue.tokens / self._tokens_a_second)))
            raise Refusal("overloaded", "the teacher's queue is full", retry_after_s=wait)

    async def close(self) -> None:
        """Stop feeding; a batch that runs is waited for."""
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    def _admit(self, request: Request, deadline: float | None) -> asyncio.Future[None]:
        cost = request.group.tokens
        if self._failed:
            raise Refusal("engine_failed", "the teacher's engine has failed")
        if deadline is not None and deadline <= time.monotonic():
            raise Refusal("deadline_exceeded", "the deadline had passed when the request was read")
        if cost > self._max_queued_tokens:
            limit = self._max_queued_tokens
            raise Refusal("too_long", f"the request costs {cost} teacher tokens; the limit is {limit}: split it")
        self.refuse_if_full(request.client, cost)
        request.done = asyncio.get_running_loop().create_future()
        self._held[request.owner] += cost
        self._queue.push(request.client.key, request.client.job, request.group)
        self._metrics.queued_tokens.set(self._queue.tokens)
        self._arrived.set()
        return request.done

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            batch: list[_Ticket] = []
            try:
                batch = self._pop()
                if batch:
                    await self._run(list(dict.fromkeys(ticket.unit for ticket in batch)))
                else:
                    self._arrived.clear()
            except Exception as error:  # noqa: BLE001 - a fault of ours: better to stop than to leave clients waiting
                self._fail_engine([ticket.unit for ticket in batch], error)
                return

    def _pop(self) -> list[_Ticket]:
        batch = self._queue.pop(self._max_batch_tokens)
        spent: Counter[str] = Counter()
        for ticket in batch:
            spent[ticket.request.owner] += ticket.unit.work.cost
            if ticket.unit.result is not None:
                ticket.request.answer(ticket.index, ticket.unit.result)
        for owner, tokens in spent.items():
            self._release(owner, tokens)
        return batch

    def _release(self, owner: str, tokens: int) -> None:
        """Give back the places of work that no longer waits."""
        if tokens:
            self._held[owner] -= tokens
            if not self._held[owner]:
                del self._held[owner]
            self._metrics.queued_tokens.set(self._queue.tokens)

    async def _run(self, batch: list[Unit]) -> None:
        """Run a batch. Where one row is too large for the device, its neighbours are run again without it."""
        batch = [unit for unit in batch if unit.result is None and self._still_wanted(unit)]
        if self._failed:
            _fail(batch, Refusal("engine_failed", "the teacher's engine has failed"))
            return
        if not batch:
            await asyncio.sleep(0)
            return
        queries = [unit.work.query for unit in batch]
        began = time.monotonic()
        results: list[Answer] | None = None
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.score, queries)
        except RowTooLarge as error:
            if len(batch) == 1:
                _fail(batch, Refusal("too_long", str(error)))
                return
        except Exception as error:  # noqa: BLE001 - whatever the runtime raised, it is not to be trusted again
            self._fail_engine(batch, error)
            return
        if results is None:  # out of the handler, whose traceback would hold the failed batch's memory
            for unit in batch:
                await self._run([unit])
            return
        seconds, tokens = time.monotonic() - began, sum(unit.work.cost for unit in batch)
        self._tokens_a_second += 0.2 * (tokens / max(seconds, 1e-6) - self._tokens_a_second)
        self._metrics.batch(tokens, seconds)
        await self._answer(batch, results)

    def _still_wanted(self, unit: Unit) -> bool:
        if not unit.wanted:
            unit.let_go()
            return False
        return True

    async def _answer(self, batch: list[Unit], results: list[Answer]) -> None:
        for unit, result in zip(batch, results, strict=True):
            unit.result = result
        self._keep(batch)
        answered = 0
        for unit, result in zip(batch, results, strict=True):
            for waiter, index in tuple(unit.waiters):
                waiter.answer(index, result)
                answered += 1
                if answered % ANSWERED == 0:  # many may wait for the same
                    await asyncio.sleep(0)

    def _fail_engine(self, batch: list[Unit], error: BaseException) -> None:
        self._failed = True
        while batch:
            _fail(batch, Refusal("engine_failed", "the teacher's engine has failed"))
            batch = [ticket.unit for ticket in self._pop()]
        self._on_failure(error)


def _fail(units: Sequence[Unit], refusal: Refusal) -> None:
    for unit in units:
        unit.let_go()
        for waiter, _ in tuple(unit.waiters):
            waiter.fail(refusal)


def _on_loop_clock(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
