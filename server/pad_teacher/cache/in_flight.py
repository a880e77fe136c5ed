"""Units of work that are under way: a unit that several requests wait for is computed once.

Each request keeps its own place in the queue. Whoever's turn comes first has the unit computed, and pays for it; the
others get the result with it, and their places are then free. So no share, deadline or hang-up of one client is felt
by another who waits for the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from pad_teacher.engines.queries import Answer, Query
from pad_teacher.errors import Refusal


class Waiter(Protocol):
    """A request that waits for units, each under a number of the request's own."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        ...

    def answer(self, index: int, result: Answer) -> None:
        """Take the result of one unit; once is enough."""
        ...

    def fail(self, refusal: Refusal) -> None:
        """End the wait."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Unit:
    """A query, the keys of its rows, who waits for it, and its result once there is one."""

    keys: tuple[bytes, ...]
    query: Query
    # Only ever appended to: requests join in the thread that reads them, and are answered on the event loop. One that
    # joins too late to be answered gets the result when its own turn comes.
    waiters: list[tuple[Waiter, int]] = field(default_factory=list)
    result: Answer | None = None
    _claimed: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(waiter.wanted for waiter, _ in self.waiters)

    def claim(self) -> bool:
        """Whether this is the first turn at it: the one that pays."""
        first, self._claimed = not self._claimed, True
        return first

    def let_go(self) -> None:
        """It was not computed after all: the next turn at it is the first again."""
        self._claimed = False


class InFlight:
    """Units by the keys of their rows, for as long as anybody holds them. Belongs to the thread that reads."""

    def __init__(self) -> None:
        self._units: WeakValueDictionary[tuple[bytes, ...], Unit] = WeakValueDictionary()

    def join(self, keys: Sequence[bytes], query: Query) -> tuple[Unit, bool]:
        """The unit of these rows, and whether it was under way already."""
        known = tuple(keys)
        unit = self._units.get(known)
        if unit is not None:
            return unit, True
        unit = self._units[known] = Unit(known, query)
        return unit, False
