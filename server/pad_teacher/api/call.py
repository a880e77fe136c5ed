"""One request between its body and its reply: what is large about it is made, used and let go of in a thread.

To free a million token ids takes tens of milliseconds, in which no other thread runs: that is done bit by bit.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from pad_teacher.admission.client import Client
from pad_teacher.admission.request import PendingRequest
from pad_teacher.api.chunked_json import json_pieces
from pad_teacher.cache.reuse import Remaining, ScoreReuse
from pad_teacher.runtime.metrics import Metrics
from pad_teacher.scoring.plan import Plan
from pad_wire import ScoreReply, SelectionReply, Usage
from pad_wire.scoring import ScoringRequest
from pad_wire.text import WireModel

Request_ = TypeVar("Request_", bound=WireModel)


class UnderWay:
    """Holds a plan and its results.

    Its methods are called in the thread that reads requests; the event loop only carries it from one to the next.
    """

    def __init__(self, client: Client, reuse: ScoreReuse) -> None:
        self._client = client
        self._reuse = reuse
        self._remaining: Remaining | None = None
        self._plan: Plan | None = None
        self._request: PendingRequest | None = None

    def begin(self, read: Callable[[], Request_], plan: Callable[[Request_], Plan]) -> PendingRequest:
        """Read and plan it, and make of that what the batcher takes."""
        asked = read()
        try:
            self._plan = plan(asked)
        finally:
            if isinstance(asked, ScoringRequest):
                empty(asked.sets)
        self._remaining = self._reuse.remaining(self._plan.queries)
        self._request = PendingRequest(self._client, self._remaining.units)
        return self._request

    def finish(self, metrics: Metrics) -> tuple[list[bytes], Usage, int]:
        """The reply, in pieces; what it holds; and how many teacher tokens of it had been computed before."""
        if self._plan is None or self._remaining is None or self._request is None:
            raise RuntimeError("a reply without a request")
        answers = self._remaining.answers(self._request.results)
        reply = self._plan.reply(answers)
        empty(answers)
        if isinstance(reply, SelectionReply | ScoreReply):
            for item in reply.sets:
                metrics.label_mass.observe(item.label_mass)
        pieces = json_pieces(reply)
        for _, value in reply:
            if isinstance(value, list):
                empty(value)
        return pieces, self._plan.usage, self._remaining.reused_tokens

    def drop(self) -> None:
        """Let go of everything."""
        if self._plan:
            for held in (self._plan.queries, *self._plan.held):
                empty(held)
        if self._remaining:
            for held in (self._remaining.units, self._remaining.keys, self._remaining.known):
                empty(held)
        if self._request:
            empty(self._request.group.items)
            empty(self._request.results)
        self._plan = self._remaining = self._request = None


def empty(items: list[Any] | deque[Any] | dict[Any, Any]) -> None:
    """Remove the items one by one, so that other threads run in between."""
    remove = items.popitem if isinstance(items, dict) else items.pop
    while items:
        remove()
