"""One scoring call, between its body and its reply."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pad_teacher.admission.client import Client
from pad_teacher.admission.request import PendingRequest
from pad_teacher.api.chunked_json import json_chunks
from pad_teacher.cache.reuse import Remaining
from pad_teacher.runtime.metrics import Metrics
from pad_teacher.runtime.reading_thread import ReadingThread
from pad_teacher.scoring.plan import Plan, PlanBudget
from pad_teacher.service import Running
from pad_wire import ScoreReply, SelectionReply, Usage
from pad_wire.scoring import ScoringRequest
from pad_wire.text import WireModel
from pad_wire.validation import parse


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call's reply as JSON, and its usage; ``reused_tokens`` are teacher tokens that reuse has saved."""

    chunks: list[bytes]
    usage: Usage
    reused_tokens: int


@dataclass(slots=True)
class CallData:
    """The large part of a call: its plan, what remains to be computed, and the request in the queue."""

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
        self._data: CallData | None = None  # set in the thread, also if nobody waits for it any more

    async def run(
        self, model: type[WireModel], plan: Callable[..., Plan], body: bytearray, budget: PlanBudget
    ) -> CallData:
        """Read ``body`` as ``model``, plan it, and wait for the engine; the result goes to ``reply``.

        Raises:
            InvalidBody: if the body is not of that model.
            Refusal: if it cannot be planned or queued, its deadline passes, or the engine fails.
        """
        data = await self._thread.run(self._read, model, plan, body, budget)
        await self._running.batcher.submit(data.request, budget.deadline)
        return data

    async def reply(self, data: CallData) -> CallResult:
        """The reply to a call that has been computed.

        Raises:
            Refusal: ``engine_failed``, if a number is not finite.
        """
        return await self._thread.run(self._write, data)

    def free(self) -> None:
        """Free the call's data soon, in the thread."""
        self._thread.run_later(self._free)

    def _read(
        self, model: type[WireModel], plan: Callable[..., Plan], body: bytearray, budget: PlanBudget
    ) -> CallData:
        asked = parse(model, body)
        try:
            planned = plan(self._running.teacher, asked, budget)
        finally:
            if isinstance(asked, ScoringRequest):
                _free_items(asked.sets)
        remaining = self._running.reuse.remaining(planned.queries)
        self._data = CallData(planned, remaining, PendingRequest(self._client, remaining.units))
        return self._data

    def _write(self, data: CallData) -> CallResult:
        plan, remaining = data.plan, data.remaining
        answers = remaining.answers(data.request.results)
        reply = plan.reply(answers)
        _free_items(answers)
        if isinstance(reply, SelectionReply | ScoreReply):
            for item in reply.sets:
                self._metrics.label_mass.observe(item.label_mass)
        chunks = json_chunks(reply)
        for _, value in reply:
            if isinstance(value, list):
                _free_items(value)
        return CallResult(chunks, plan.usage, remaining.reused_tokens)

    def _free(self) -> None:
        if data := self._data:
            self._data = None
            plan, remaining, request = data.plan, data.remaining, data.request
            _free_items(plan.queries, *plan.held, remaining.units, remaining.keys, remaining.known)
            _free_items(request.group.items, request.results)


def _free_items(*containers: list[Any] | deque[Any] | dict[Any, Any]) -> None:
    """Empty the containers one item at a time, so that other threads run in between."""
    for items in containers:
        remove = items.popitem if isinstance(items, dict) else items.pop
        while items:
            remove()


# pyright: standard
