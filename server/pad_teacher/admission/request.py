"""A request that waits for the teacher: its units in the queue, and the results that have come so far."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pad_teacher.admission.client import Client
from pad_teacher.admission.fair_queue import Group
from pad_teacher.cache.in_flight import Unit
from pad_teacher.engines.queries import Answer
from pad_teacher.errors import Refusal

_NOT_YET: Answer = []


@dataclass(slots=True, eq=False)
class QueuedUnit:
    """A unit in its request's place in the queue; ``index`` is the position of its result in the request."""

    request: "PendingRequest"
    index: int
    unit: Unit
    pays: bool = False

    def claim(self) -> bool:
        """Take the unit's turn; returns whether this request pays for it, as the first that waits."""
        self.pays = self.unit.claim()
        return self.pays


class PendingRequest:
    """The units that one client waits for, and their results.

    - It is made off the event loop, and used on it: however many units it has, it enters the queue as one group.
    - Its wait ends once: with the last result, with a refusal, or because the client left.
    - The first result of a unit counts; later ones are ignored.
    """

    def __init__(self, client: Client, units: Sequence[Unit], reserve: int = 0) -> None:
        """Make a request of ``units``; ``reserve`` are the most tokens that it may still ask for after them."""
        self.client = client
        self.reserve = reserve
        queued = ((QueuedUnit(self, index, unit), unit.query.cost) for index, unit in enumerate(units))
        self.group: Group[QueuedUnit] = Group[QueuedUnit].of(queued)
        self.results = [_NOT_YET] * len(units)
        self.done: asyncio.Future[None] | None = None  # set when it is admitted
        self.day = ""  # the UTC day whose quota it was charged to
        self.admitted = 0.0  # on the queue's clock
        self.begun = False  # whether any of its units has left the queue for the engine
        self._missing = len(units)
        for index, unit in enumerate(units):
            unit.waiters.append((self, index))

    @property
    def wanted(self) -> bool:
        """Whether the client still waits."""
        return self.done is not None and not self.done.done()

    def admit(self, day: str, now: float) -> asyncio.Future[None]:
        """Begin the wait: the queue has charged it to ``day`` at ``now``. Returns the future that ends it."""
        self.day, self.admitted = day, now
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    def answer(self, index: int, result: Answer) -> None:
        """Take the result of one unit; the last one ends the wait."""
        if self.done is None or self.done.done() or self.results[index] is not _NOT_YET:
            return
        self.results[index] = result
        self._missing -= 1
        if not self._missing:
            self.done.set_result(None)

    def fail(self, refusal: Refusal) -> None:
        """End the wait with ``refusal``, unless it has ended."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(refusal)
            self.done.exception()  # mark it as retrieved: asyncio would report it if the client has left
