"""One scoring call, between its body and its reply."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pad_teacher.admission.client import Client
from pad_teacher.admission.request import PendingRequest
from pad_teacher.api.chunked_json import CHUNK_BYTES, Chunks, json_chunks
from pad_teacher.cache.reuse import Remaining
from pad_teacher.engines.queries import Answer
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics
from pad_teacher.runtime.reading_thread import ReadingThread, Steps, Stopwatch
from pad_teacher.scoring.plan import Plan, PlanBudget
from pad_teacher.scoring.tensors import TensorReply, TensorRequest
from pad_teacher.service import Running
from pad_wire import ScoreReply, SelectionReply, Usage
from pad_wire.scoring import ScoringRequest
from pad_wire.token_logprobs import SAFETENSORS
from pad_wire.validation import InvalidBody

T = TypeVar("T")

FREED_A_STEP = 64  # items; each may hold a thousand numbers
# Refusals whose reason is not the request: the time that they took is not held against its key.
OF_THE_SERVICE = frozenset({"overloaded", "deadline_exceeded", "not_ready", "engine_failed", "internal"})


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call's reply in chunks, and its usage; ``reused_tokens`` are teacher tokens that reuse has saved."""

    body: Chunks
    usage: Usage
    reused_tokens: int


@dataclass(slots=True)
class CallData:
    """The large part of a call, or of a later part of it: its plan, what remains to be computed, and the request."""

    plan: Plan
    remaining: Remaining
    request: PendingRequest


class ScoringCall:
    """One scoring call.

    - Everything that grows with the request is made, used and freed in the reading thread.
    - It is freed item by item: to free a million token ids takes tens of milliseconds, in which no other thread runs.
    """

    def __init__(self, client: Client, running: Running, thread: ReadingThread, metrics: Metrics) -> None:
        self._client = client
        self._running = running
        self._thread = thread
        self._metrics = metrics
        self._spent = Stopwatch()
        self._parts: list[CallData] = []  # made in the thread, also if nobody waits for them any more

    async def run(
        self, read: Callable[[], Steps[Any]], plan: Callable[..., Steps[Plan]], budget: PlanBudget
    ) -> CallData:
        """Read the request, plan it, and wait for the engine; the result goes to ``reply``.

        If the client itself is the reason why nothing comes of it, the thread's time counts as refused.

        Raises:
            InvalidBody: if the body is not of the route's model.
            Refusal: if it cannot be planned or queued, its deadline passes, or the engine fails.
        """
        try:
            return await self._run(read, plan, budget)
        except (Refusal, InvalidBody, asyncio.CancelledError) as error:
            if not (isinstance(error, Refusal) and error.detail.code in OF_THE_SERVICE):
                self._thread.refused(self._client.owner, self._spent.seconds)
            raise

    async def _run(
        self, read: Callable[[], Steps[Any]], plan: Callable[..., Steps[Plan]], budget: PlanBudget
    ) -> CallData:
        batcher = self._running.batcher
        data = await self._work(self._read(read, plan, budget))
        first = data.request
        try:
            await batcher.submit(first, budget.deadline)
            while data.plan.further:
                data = await self._work(self._go_on(data, data.plan.further))
                if first.done is None:  # all of it was in the cache: the reserve is still to be held
                    data.request.reserve = max(0, first.reserve - data.request.group.tokens)
                    first = data.request
                await batcher.submit(data.request, budget.deadline, first)
        finally:
            batcher.queue.release(first)
        return data

    async def reply(self, data: CallData, *, as_json: bool = True) -> CallResult:
        """The reply to a call that has been computed; one of tensors may be sent as such.

        Raises:
            Refusal: ``engine_failed``, if a number is not finite.
        """
        return await self._work(self._write(data, as_json))

    def free(self) -> None:
        """Free the call's data soon, in the thread."""
        self._thread.work_later(self._client.owner, self._client.limits.weight, self._free())

    async def _work(self, steps: Steps[T]) -> T:
        return await self._thread.work(self._client.owner, self._client.limits.weight, steps, self._spent)

    def _read(
        self, read: Callable[[], Steps[Any]], plan: Callable[..., Steps[Plan]], budget: PlanBudget
    ) -> Steps[CallData]:
        asked = yield from read()
        yield
        try:
            planned = yield from plan(self._running.teacher, asked, budget)
        finally:
            request = asked.request if isinstance(asked, TensorRequest) else asked
            if isinstance(request, ScoringRequest):
                _free_items(request.sets)  # at once: the steps may have been closed
        yield
        remaining = yield from self._running.reuse.remaining(planned.queries)
        reserve = yield from self._running.reuse.most_cost(planned.may_ask, remaining)
        return self._part(planned, remaining, reserve)

    def _go_on(self, data: CallData, further: Callable[[Sequence[Answer]], Steps[Plan]]) -> Steps[CallData]:
        """The next part of a call, once the one before is computed."""
        answers = yield from data.remaining.answers(data.request.results)
        planned = yield from further(answers)
        remaining = yield from self._running.reuse.remaining(planned.queries, data.remaining.known)
        return self._part(planned, remaining)

    def _part(self, planned: Plan, remaining: Remaining, reserve: int = 0) -> CallData:
        self._parts.append(CallData(planned, remaining, PendingRequest(self._client, remaining.units, reserve)))
        return self._parts[-1]

    def _write(self, data: CallData, as_json: bool) -> Steps[CallResult]:
        plan, remaining = data.plan, data.remaining
        answers = yield from remaining.answers(data.request.results)
        reply = yield from plan.reply(answers)
        yield from _free_steps(answers)
        if isinstance(reply, SelectionReply | ScoreReply):
            for item in reply.sets:
                if item.label_mass is not None:
                    self._metrics.label_mass.observe(item.label_mass)
            self._metrics.sets_of_one_text.inc(reply.usage.sets_of_one_text or 0)
        yield
        if isinstance(reply, TensorReply):
            if not as_json:
                return CallResult(tensor_chunks(reply), plan.usage, self._reused_tokens())
            reply = reply.as_json()
        chunks: list[bytes] = []
        for chunk in json_chunks(reply):
            chunks.append(chunk)
            yield
        for _, value in reply:
            if isinstance(value, list):
                yield from _free_steps(value)
        return CallResult(Chunks.of_json(chunks), plan.usage, self._reused_tokens())

    def _reused_tokens(self) -> int:
        return sum(part.remaining.reused_tokens for part in self._parts)

    def _free(self) -> Steps[None]:
        while self._parts:
            data = self._parts.pop()
            plan, remaining, request = data.plan, data.remaining, data.request
            for items in (plan.queries, *plan.held, remaining.units, remaining.keys, remaining.known):
                yield from _free_steps(items)
            yield from _free_steps(request.group.items)
            yield from _free_steps(request.results)


def tensor_chunks(reply: TensorReply) -> Chunks:
    """A reply of tensors as a safetensors file; each chunk is made when it is sent."""
    return Chunks(reply.chunks(CHUNK_BYTES), reply.size, SAFETENSORS)


def _free_items(items: list[Any]) -> None:
    """Empty a list one item at a time, so that other threads run in between."""
    while items:
        items.pop()


def _free_steps(items: list[Any] | deque[Any] | dict[Any, Any]) -> Steps[None]:
    """Empty a container in steps."""
    remove = items.popitem if isinstance(items, dict) else items.pop
    while items:
        for _ in range(min(len(items), FREED_A_STEP)):
            remove()
        yield


# pyright: standard
