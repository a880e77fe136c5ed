"""Admission and batching: requests of several clients share the engine, a token budget at a time."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import ceil

from pad_teacher.engine import Answer, Engine, RowTooLarge
from pad_teacher.errors import Refusal
from pad_teacher.fair_queue import FairQueue, Group
from pad_teacher.metrics import Metrics
from pad_teacher.work import Work

CHECK_SECONDS = 0.25  # between looks at whether an idle engine still lives


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the name of the key (empty without keys) and the job it names."""

    key: str
    job: str


@dataclass(slots=True, eq=False)
class _Ticket:
    """A unit of work that waits, and which of its request's results it is."""

    request: "Request"
    index: int
    work: Work


class Request:
    """All that one client waits for. Made off the event loop, where thousands of units are one thing from then on."""

    def __init__(self, client: Client, works: Sequence[Work]) -> None:
        self.client = client
        self.owner = client.key or client.job  # whose share of the queue it counts against
        self.group = Group.of((_Ticket(self, index, work), work.cost) for index, work in enumerate(works))
        self.results: list[Answer] = [[]] * len(works)
        self.done: asyncio.Future[None] | None = None  # set once it is admitted
        self._missing = len(works)

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return self.done is not None and not self.done.done()

    def answer(self, index: int, result: Answer) -> None:
        """Take one unit's result; the last one ends the wait."""
        if self.done is None or self.done.done():
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
        *,
        max_batch_tokens: int,
        max_queued_tokens: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_tokens = max_queued_tokens
        self._on_failure = on_failure
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(engine.concurrent_batches, thread_name_prefix="engine")
        self._slots = asyncio.Semaphore(engine.concurrent_batches)
        self._running: set[asyncio.Task[None]] = set()
        self._last_end = 0.0
        self._tokens_a_second = float(max_batch_tokens)
        self._held: Counter[str] = Counter()  # waiting tokens of each owner that has any
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
            Refusal: ``overloaded``, ``too_long``, ``deadline_exceeded`` or ``engine_failed``.
        """
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
        self.refuse_if_full(request.client, cost)
        request.done = asyncio.get_running_loop().create_future()
        self._held[request.owner] += cost
        self._queue.push(request.client.key, request.client.job, request.group)
        self._metrics.queued_tokens.set(self._queue.tokens)
        self._arrived.set()
        return request.done

    async def _serve(self) -> None:
        while True:
            await self._slots.acquire()  # first, so that what arrives until then has a share in the next batch
            while not (batch := self._pop()):
                self._arrived.clear()
                await self._arrived.wait()
            running = asyncio.create_task(self._or_fail(partial(self._run, batch), batch))
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
        spent: Counter[str] = Counter()
        for ticket in batch:
            spent[ticket.request.owner] += ticket.work.cost
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

    async def _run(self, batch: list[_Ticket]) -> None:
        """Run a batch. Where one row is too large for the device, its neighbours are run again without it."""
        batch = [ticket for ticket in batch if ticket.request.wanted]
        if self._failed:
            _fail(batch, Refusal("engine_failed", "the teacher's engine has failed"))
            return
        if not batch:  # nobody waits for any of it any more
            return
        queries = [ticket.work.query for ticket in batch]
        began = time.monotonic()
        results: list[Answer] | None = None
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.score, queries)
        except RowTooLarge as error:
            if len(batch) == 1:
                _fail(batch, Refusal("too_long", str(error)))
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
        seconds, tokens = self._last_end - began, sum(ticket.work.cost for ticket in batch)
        self._tokens_a_second += 0.2 * (tokens / max(seconds, 1e-6) - self._tokens_a_second)
        self._metrics.batch(tokens, seconds)
        for ticket, result in zip(batch, results, strict=True):
            ticket.request.answer(ticket.index, result)

    def _fail_engine(self, batch: Sequence[_Ticket], error: BaseException) -> None:
        first, self._failed = not self._failed, True
        refusal = Refusal("engine_failed", "the teacher's engine has failed")
        _fail(batch, refusal)
        while waiting := self._pop():
            _fail(waiting, refusal)
        if first:
            self._on_failure(error)


def _fail(tickets: Sequence[_Ticket], refusal: Refusal) -> None:
    for ticket in tickets:
        ticket.request.fail(refusal)


def _on_loop_clock(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
