"""Units that are being computed: if several requests wait for the same unit, it is computed once.

Each request keeps its own place in the queue. The request whose turn comes first has the unit computed and pays for
it. The others get the result at the same time, and their places are then free. So the share, the deadline or the
hang-up of one client never affects another that waits for the same unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from pad_teacher.engines.queries import Answer, AnyQuery
from pad_teacher.errors import Refusal


class Waiter(Protocol):
    """A request that waits for units; it numbers them itself."""

    @property
    def wanted(self) -> bool:
        """Whether the client still waits."""
        ...

    def answer(self, index: int, result: Answer) -> None:
        """Take the result of one unit; a second one is ignored."""
        ...

    def fail(self, refusal: Refusal) -> None:
        """End the wait."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Unit:
    """The unit of queueing: one query, the keys of its rows, the requests that wait for it, and its result.

    - ``waiters`` only grows. Requests join in the reading thread and are answered on the event loop; one that joins
      too late to be answered gets the result at its own turn.
    - Of the turns that come, one pays: the first, or the first after ``unclaim``.
    """

    keys: tuple[bytes, ...]
    query: AnyQuery
    waiters: list[tuple[Waiter, int]] = field(default_factory=list[tuple[Waiter, int]])
    result: Answer | None = None
    _claimed: bool = False

    @property
    def wanted(self) -> bool:
        """Whether any request still waits for it."""
        return any(waiter.wanted for waiter, _ in self.waiters)

    def claim(self) -> bool:
        """Take a turn; returns whether this turn pays."""
        first, self._claimed = not self._claimed, True
        return first

    def fail(self, refusal: Refusal) -> None:
        """End the wait of all requests for it; the next turn pays."""
        self.unclaim()
        for waiter, _ in tuple(self.waiters):
            waiter.fail(refusal)

    def unclaim(self) -> None:
        """Undo the claim: the unit was not computed, so the next turn pays."""
        self._claimed = False


class InFlight:
    """Units by the keys of their rows. Belongs to the reading thread.

    - A unit is known for as long as anything else refers to it.
    """

    def __init__(self) -> None:
        self._units: WeakValueDictionary[tuple[int, tuple[bytes, ...]], Unit] = WeakValueDictionary()

    @property
    def units(self) -> list[Unit]:
        """The units that are known."""
        return list(self._units.values())

    def join(self, keys: Sequence[bytes], query: AnyQuery, depth: int = 0) -> tuple[Unit, bool]:
        """The unit of these rows, and whether it was in flight already; units of another ``depth`` are others."""
        known = tuple(keys)
        unit = self._units.get((depth, known))
        if unit is not None:
            return unit, True
        unit = self._units[depth, known] = Unit(known, query)
        return unit, False
