"""The admission queue: which requests may wait, and the 429 of a full one. Their order: ``fair_queue.py``."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from math import ceil

from pad_teacher.admission.budgets import Budgets
from pad_teacher.admission.client import Client
from pad_teacher.admission.fair_queue import FairQueue
from pad_teacher.admission.queue_room import QueueRoom
from pad_teacher.admission.request import PendingRequest, QueuedUnit
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics

CREDIT_BATCHES = 4  # a returning job may spend this much of its unused share by going first
MAX_RETRY_SECONDS = 60  # also for a request that is refused unread: it may have room before all that waits is done


class QueueState:
    """What others see of an admission queue."""

    _fair: FairQueue[QueuedUnit]
    _room: QueueRoom
    _waiting: int

    @property
    def waiting(self) -> int:
        """Requests of which some units have not left the queue."""
        return self._waiting

    @property
    def tokens(self) -> int:
        """Teacher tokens that hold room in the queue."""
        return self._room.tokens

    @property
    def jobs(self) -> set[tuple[str, str]]:
        """The (key, job) pairs that have units in the queue."""
        return self._fair.jobs

    def served(self, key: str, job: str) -> float:
        """Tokens of the job's share that are used up, as the fair queue counts them."""
        return self._fair.served(key, job)


class AdmissionQueue(QueueState):
    """Requests between their arrival and the engine. Belongs to the event loop.

    - A request is admitted whole or not at all: it holds room and is charged to its key for all its tokens.
    - Each admitted token leaves once: in a batch, by ``withdraw`` or by ``release``. Then its room is free.
    - A request that may ask for more later is charged for the most of it, so it is never refused midway.
    - A key is charged for exactly the tokens that the engine computed for it: the rest is given back.
    - Units leave in the order of the fair queue, in batches of at most ``max_batch_tokens``.
    - After ``close`` nothing is admitted; what waits can still be taken out.
    """

    def __init__(
        self,
        budgets: Budgets,
        metrics: Metrics,
        *,
        max_batch_tokens: int,
        max_queued_tokens: int,
        seconds_for: Callable[[int], float | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty queue; ``seconds_for`` estimates the time of tokens, deadlines are on ``clock``."""
        self._budgets = budgets
        self._metrics = metrics
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_tokens = max_queued_tokens
        self._seconds_for = seconds_for
        self._clock = clock
        self._fair = FairQueue(CREDIT_BATCHES * max_batch_tokens, QueuedUnit.claim)
        self._room = QueueRoom(max_queued_tokens)
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._closed = False

    def refuse_unread(self, client: Client) -> None:
        """Refuse a request before its cost is known, if its key has no token left or there is room for none.

        Raises:
            Refusal: ``quota_exceeded``, ``budget_exceeded``; or ``overloaded``, until all that waits is done.
        """
        self._budgets.refuse_if_short(client.key, client.limits)
        self._refuse_without_room(client, 1, self._room.tokens)

    def admit(self, request: PendingRequest, deadline: float | None) -> asyncio.Future[None]:
        """Queue ``request`` and return the future that ends its wait.

        Raises:
            Refusal: ``engine_failed``, ``deadline_exceeded``, ``too_long``; ``budget_exceeded``, ``quota_exceeded``
                or ``overloaded``, until there are tokens and room for all its cost.
        """
        client, cost = request.client, request.group.tokens + request.reserve
        if self._closed:
            raise engine_failed()
        if deadline is not None and deadline <= self._clock():
            raise Refusal("deadline_exceeded", "the deadline had passed when the request was read")
        if cost > (limit := self._max_queued_tokens):
            raise Refusal("too_long", f"the request costs {cost} teacher tokens; the limit is {limit}: split it")
        self._budgets.refuse_if_short(client.key, client.limits, cost)
        self._refuse_without_room(client, cost, self._room.tokens + cost - limit)
        day = self._budgets.take(client.key, client.limits, cost)
        self._room.hold(client.owner, client.limits.weight, cost)
        return self._enter(request, day)

    def admit_further(self, request: PendingRequest, first: PendingRequest) -> asyncio.Future[None]:
        """Queue ``request``, the second part of ``first``, out of its reserve; ``engine_failed`` as ``admit``."""
        if self._closed:
            raise engine_failed()
        first.reserve -= request.group.tokens
        return self._enter(request, first.day)

    def release(self, request: PendingRequest) -> None:
        """Give back the tokens that ``request`` has reserved and not asked for."""
        if request.done is not None and request.reserve:
            tokens, request.reserve = request.reserve, 0
            self._room.free(request.client.owner, tokens)
            self._show_size()
            self.give_back(request, tokens, None)

    def _refuse_without_room(self, client: Client, cost: int, ahead: int) -> None:
        """Refuse ``cost`` tokens that have no room before ``ahead`` others are done."""
        if not self._room.has_room(client.owner, client.limits.weight, cost):
            raise _full(self._seconds_for(ahead))

    def _enter(self, request: PendingRequest, day: str) -> asyncio.Future[None]:
        client, done = request.client, request.admit(day, self._clock())
        self._waiting += 1
        self._fair.push(client.key, client.job, request.group, client.limits.weight)
        self._show_size()
        self._arrived.set()
        return done

    def withdraw(self, request: PendingRequest, reason: str | None) -> None:
        """Take out the units of ``request`` that still wait, if any; ``reason`` as for ``give_back``."""
        client = request.client
        tokens = self._fair.discard(client.key, client.job, request.group)
        if tokens:
            self._waiting -= 1
            self._room.free(client.owner, tokens)
            self._show_size()
            self.give_back(request, tokens, reason)

    async def next_batch(self) -> list[QueuedUnit]:
        """Wait until something is queued, and take out the next batch."""
        while not (batch := self.take_batch()):
            self._arrived.clear()
            await self._arrived.wait()
        return batch

    def take_batch(self) -> list[QueuedUnit]:
        """Take out the next batch; empty if nothing waits.

        A unit that another request has paid for comes along free: its tokens are given back, and its result, if
        there is one already, is handed on.
        """
        batch = self._fair.pop(self._max_batch_tokens)
        tokens: Counter[PendingRequest] = Counter()
        for queued in batch:
            cost = queued.unit.query.cost
            tokens[queued.request] += cost
            if not queued.pays:
                self.give_back(queued.request, cost, None)
            if queued.unit.result is not None:
                queued.request.answer(queued.index, queued.unit.result)
        now = self._clock()
        for request, count in tokens.items():
            self._room.free(request.client.owner, count)
            self._waiting -= not request.group.items
            if not request.begun:
                request.begun = True
                self._metrics.waited(now - request.admitted)
        self._show_size()
        return batch

    def give_back(self, request: PendingRequest, tokens: int, reason: str | None) -> None:
        """Return tokens to the key of ``request``.

        ``reason`` says why nobody computed them: ``deadline``, ``client_left`` or ``failed``; None if another request
        paid for them.
        """
        self._budgets.give_back(request.client.key, tokens, request.day)
        if reason:
            self._metrics.dropped_tokens.labels(reason).inc(tokens)

    def close(self) -> None:
        """Admit nothing from now on: the engine has failed."""
        self._closed = True

    def _show_size(self) -> None:
        self._metrics.queued_tokens.set(self._room.tokens)
        self._metrics.queued_requests.set(self._waiting)


def _full(seconds: float | None) -> Refusal:
    """The refusal of a full queue that is expected to have room in ``seconds``; None if no batch was measured yet."""
    wait = min(MAX_RETRY_SECONDS, max(1, ceil(seconds or 1)))
    return Refusal("overloaded", "the teacher's queue is full", retry_after_s=wait)


def engine_failed() -> Refusal:
    """The refusal of all requests once the engine has failed."""
    return Refusal("engine_failed", "the teacher's engine has failed")
