"""Admission and batching: requests of several clients share the engine, a token budget at a time."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import ceil

from pad_teacher.admission.budgets import Budgets
from pad_teacher.admission.fair_queue import FairQueue, Group
from pad_teacher.admission.keys import NO_LIMITS, KeyLimits
from pad_teacher.admission.queue_room import Places
from pad_teacher.cache.in_flight import Unit
from pad_teacher.engines.base import Engine, RowTooLarge
from pad_teacher.engines.queries import Answer
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics

ANSWERED = 512  # requests answered in one step of the event loop
_NOT_YET: Answer = []

CREDIT_BATCHES = 4  # of its unused share, with which a polite client's request goes first

CHECK_SECONDS = 0.25  # between looks at whether an idle engine still lives


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the name of the key (empty without keys), the job it names, and what the key may use."""

    key: str
    job: str
    limits: KeyLimits = field(default=NO_LIMITS, compare=False)


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request's place in the queue for a unit of work, and which of its results that is."""

    request: "Request"
    index: int
    unit: Unit
    pays: bool = False

    def claim(self) -> bool:
        """Its turn has come: whether it has the unit computed, and pays for it."""
        self.pays = self.unit.claim()
        return self.pays


class Request:
    """All that one client waits for. Made off the event loop, where thousands of units are one thing from then on."""

    def __init__(self, client: Client, units: Sequence[Unit]) -> None:
        self.client = client
        self.owner = client.key or client.job  # whose share of the queue it counts against
        self.group = Group.of((_Ticket(self, index, unit), unit.query.cost) for index, unit in enumerate(units))
        self.results = [_NOT_YET] * len(units)
        self.done: asyncio.Future[None] | None = None  # set once it is admitted
        self.day = ""  # whose quota it was charged to
        self.admitted = 0.0
        self.begun = False  # whether the engine was given any of it
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
    """Feeds one engine, a thread for each batch it takes at once. Lives on the event loop; only ``run`` leaves it."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        budgets: Budgets,
        *,
        max_batch_tokens: int,
        max_queued_tokens: int,
        keep: Callable[[list[Unit]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._budgets = budgets
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_tokens = max_queued_tokens
        self._keep = keep
        self._on_failure = on_failure
        self._queue: FairQueue[_Ticket] = FairQueue(CREDIT_BATCHES * max_batch_tokens, _Ticket.claim)
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(engine.concurrent_batches, thread_name_prefix="engine")
        self._slots = asyncio.Semaphore(engine.concurrent_batches)
        self._running: set[asyncio.Task[None]] = set()
        self._last_end = 0.0
        self._tokens_a_second: float | None = None  # measured
        self._places = Places(max_queued_tokens)
        self._waiting = 0  # requests
        self._failed = False
        self._loops = [
            asyncio.create_task(self._or_fail(self._serve), name="batcher"),
            asyncio.create_task(self._or_fail(self._watch), name="engine watch"),
        ]

    async def submit(self, request: Request, deadline: float | None) -> None:
        """Wait until ``request`` has all its results.

        Args:
            request: what to compute, and for whom.
            deadline: on ``time.monotonic``'s clock; work not yet begun by then is dropped.

        Raises:
            Refusal: ``overloaded``, ``budget_exceeded``, ``quota_exceeded``, ``too_long``, ``deadline_exceeded`` or
                ``engine_failed``.
        """
        if not request.results:  # all that it asks is known
            return
        done = self._admit(request, deadline)
        reason: str | None = "client_left"
        try:
            async with asyncio.timeout_at(_on_loop_clock(deadline)):
                await done
            reason = None  # what is left over, others have had computed
        except TimeoutError:
            reason = "deadline"
            raise Refusal("deadline_exceeded", "the deadline passed before the teacher was done") from None
        except Refusal:
            reason = "failed"
            raise
        finally:
            # With work left over only where the client left, the deadline passed or one part failed.
            left_over = self._queue.discard(request.client.key, request.client.job, request.group)
            if left_over:
                self._waiting -= 1
                self._places.free(request.owner, left_over)
                self._show_queue()
                self._give_back(request, left_over, reason)

    def refuse_if_full(self, client: Client, cost: int = 1) -> None:
        """Refuse what finds no place: a full queue still has room for whoever holds less than its share, by weight.

        Raises:
            Refusal: ``overloaded``, with how long the waiting work is expected to take (a second, where nothing was
                measured yet; a minute at most, as places become free before all of it is done), or
                ``quota_exceeded``.
        """
        self._budgets.refuse_if_spent(client.key, client.limits)
        if not self._places.has_room(client.key or client.job, client.limits.weight, cost):
            wait = ceil(self._places.tokens / self._tokens_a_second) if self._tokens_a_second else 1
            raise Refusal("overloaded", "the teacher's queue is full", retry_after_s=min(60, max(1, wait)))

    async def close(self) -> None:
        """Stop feeding; batches that run are waited for."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, *self._running, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    def _admit(self, request: Request, deadline: float | None) -> asyncio.Future[None]:
        cost = request.group.tokens
        if self._failed:
            raise Refusal("engine_failed", "the teacher's engine has failed")
        if deadline is not None and deadline <= time.monotonic():
            raise Refusal("deadline_exceeded", "the deadline had passed when the request was read")
        if cost > self._max_queued_tokens:
            limit = self._max_queued_tokens
            raise Refusal("too_long", f"the request costs {cost} teacher tokens; the limit is {limit}: split it")
        client = request.client
        self.refuse_if_full(client, cost)
        request.day = self._budgets.take(client.key, client.limits, cost)
        request.admitted = time.monotonic()
        request.done = asyncio.get_running_loop().create_future()
        self._waiting += 1
        self._places.hold(request.owner, client.limits.weight, cost)
        self._queue.push(client.key, client.job, request.group, client.limits.weight)
        self._show_queue()
        self._arrived.set()
        return request.done

    async def _serve(self) -> None:
        while True:
            await self._slots.acquire()  # first, so that what arrives until then has a share in the next batch
            while not (batch := self._pop()):
                self._arrived.clear()
                await self._arrived.wait()
            self._begin(batch)
            del batch  # what is held here while others run would be joined by whoever asks for the same

    def _begin(self, batch: list[_Ticket]) -> None:
        paying = [ticket for ticket in batch if ticket.pays]
        running = asyncio.create_task(self._or_fail(partial(self._run, paying), batch))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        running.add_done_callback(lambda _: self._slots.release())

    async def _watch(self) -> None:
        """Notice an engine that dies while nobody asks it anything."""
        while not self._failed:
            await asyncio.sleep(CHECK_SECONDS)
            self._engine.check()

    async def _or_fail(self, work: Callable[[], Awaitable[None]], batch: Sequence[_Ticket] = ()) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the engine died, or a fault of ours: nobody is left waiting
            self._fail_engine(batch, error)

    def _pop(self) -> list[_Ticket]:
        batch = self._queue.pop(self._max_batch_tokens)
        now = time.monotonic()
        spent: Counter[Request] = Counter()
        for ticket in batch:
            cost = ticket.unit.query.cost
            spent[ticket.request] += cost
            if not ticket.pays:
                self._give_back(ticket.request, cost, None)
            if ticket.unit.result is not None:
                ticket.request.answer(ticket.index, ticket.unit.result)
        for request, tokens in spent.items():
            self._places.free(request.owner, tokens)
            self._waiting -= not request.group.items
            if not request.begun:
                request.begun = True
                self._metrics.wait_seconds.observe(now - request.admitted)
        self._show_queue()
        return batch

    def _show_queue(self) -> None:
        self._metrics.queued_tokens.set(self._queue.tokens)
        self._metrics.queued_requests.set(self._waiting)

    def _give_back(self, request: Request, tokens: int, reason: str | None) -> None:
        """Return to the key what was not run for it, or in vain; ``reason`` is None where others pay."""
        self._budgets.give_back(request.client.key, tokens, request.day)
        if reason:
            self._metrics.dropped_tokens.labels(reason).inc(tokens)

    def _drop(self, tickets: Sequence[_Ticket], refusal: Refusal) -> None:
        for ticket in tickets:
            ticket.unit.let_go()
            for waiter, _ in tuple(ticket.unit.waiters):
                waiter.fail(refusal)
            self._give_back(ticket.request, ticket.unit.query.cost, "failed")

    async def _run(self, batch: list[_Ticket]) -> None:
        """Run a batch. Where one row is too large for the device, its neighbours are run again without it."""
        batch = self._wanted(batch)
        if self._failed:
            self._drop(batch, Refusal("engine_failed", "the teacher's engine has failed"))
            return
        if not batch:
            await asyncio.sleep(0)
            return
        queries = [ticket.unit.query for ticket in batch]
        began = time.monotonic()
        results: list[Answer] | None = None
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.score, queries)
        except RowTooLarge as error:
            if len(batch) == 1:
                self._drop(batch, Refusal("too_long", str(error)))
                return
        except Exception as error:  # noqa: BLE001 - whatever the runtime raised, it is not to be trusted again
            self._fail_engine(batch, error)
            return
        if results is None:  # out of the handler, whose traceback would hold the failed batch's memory
            for ticket in batch:
                await self._run([ticket])
            return
        # Of batches that ran beside each other each counts from where the one before it ended.
        began, self._last_end = max(began, self._last_end), time.monotonic()
        seconds, tokens = self._last_end - began, sum(ticket.unit.query.cost for ticket in batch)
        rate = tokens / max(seconds, 1e-6)
        self._tokens_a_second = 0.8 * (self._tokens_a_second or rate) + 0.2 * rate
        self._metrics.batch(tokens, seconds)
        await self._answer([ticket.unit for ticket in batch], results)

    def _wanted(self, batch: list[_Ticket]) -> list[_Ticket]:
        """Those of the batch for which somebody still waits."""
        wanted = []
        for ticket in batch:
            if ticket.unit.wanted:
                wanted.append(ticket)
            else:
                ticket.unit.let_go()
                self._give_back(ticket.request, ticket.unit.query.cost, "client_left")
        return wanted

    async def _answer(self, units: list[Unit], results: list[Answer]) -> None:
        for unit, result in zip(units, results, strict=True):
            unit.result = result
        self._keep(units)
        answered = 0
        for unit, result in zip(units, results, strict=True):
            for waiter, index in tuple(unit.waiters):
                waiter.answer(index, result)
                answered += 1
                if answered % ANSWERED == 0:  # many may wait for the same
                    await asyncio.sleep(0)

    def _fail_engine(self, batch: Sequence[_Ticket], error: BaseException) -> None:
        first, self._failed = not self._failed, True
        batch = batch or self._pop()  # none of its own where the engine died while it was idle
        while batch:
            paying = [ticket for ticket in batch if ticket.pays]
            self._drop(paying, Refusal("engine_failed", "the teacher's engine has failed"))
            batch = self._pop()
        if first:
            self._on_failure(error)


def _on_loop_clock(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
