"""Whose turn it is in the reading thread: the owner that has used the least of its time for its weight goes next."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

MAX_REMEMBERED = 1024  # owners of which nothing waits


@dataclass(slots=True)
class _Line(Generic[Item]):
    """The items of one owner; ``used`` is its seconds of the thread, divided by its weight.

    It has no turn before ``not_before``.
    """

    used: float
    weight: float
    not_before: float = 0.0
    items: deque[Item] = field(default_factory=deque[Item])


class Turns(Generic[Item]):
    """Start-time fair queueing over owners, in seconds that are measured after each turn.

    - ``take`` gives the first item of the owner that has used the least seconds for its weight.
    - An owner that comes starts level with the owner whose turn was last. Overuse carries over; unused time does not.
    - Whatever a turn was used for counts, also if it ends in a refusal.
    - An owner may be paused: then it has no turn for a while. ``now`` is any clock that does not go back.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Item]] = {}
        self._remembered: dict[str, float] = {}  # the seconds used by owners of which nothing waits
        self._paused: dict[str, float] = {}  # until when, of owners of which nothing waits
        self._level = 0.0

    def __len__(self) -> int:
        """The owners of which something waits."""
        return len(self._lines)

    def add(self, owner: str, weight: float, item: Item, *, first: bool = False) -> None:
        """Let ``item`` wait after the owner's others, or before them."""
        line = self._lines.get(owner)
        if line is None:
            used = max(self._level, self._remembered.pop(owner, 0.0))
            line = _Line[Item](used, weight, self._paused.pop(owner, 0.0))
            self._lines[owner] = line
        line.weight = weight
        if first:
            line.items.appendleft(item)
        else:
            line.items.append(item)

    def seconds_to_next(self, now: float) -> float:
        """Seconds until an owner has a turn: 0 if one has, and if nothing waits."""
        return max(0.0, min((line.not_before for line in self._lines.values()), default=now) - now)

    def take(self, now: float = 0.0) -> tuple[str, Item]:
        """The owner whose turn it is, and its first item, which no longer waits.

        Raises:
            LookupError: if nothing waits that may have a turn now.
        """
        ready = [name for name, line in self._lines.items() if line.not_before <= now]
        if not ready:
            raise LookupError("nothing waits")
        owner = min(ready, key=lambda name: self._lines[name].used)
        line = self._lines[owner]
        self._level = max(self._level, line.used)
        item = line.items.popleft()
        if not line.items:
            del self._lines[owner]
            self._remember(owner, line.used)
        return owner, item

    def charge(self, owner: str, weight: float, seconds: float) -> None:
        """Count the seconds of a turn."""
        if owner in self._lines:
            self._lines[owner].used += seconds / weight
        else:
            self._remember(owner, self._remembered.get(owner, self._level) + seconds / weight)

    def pause(self, owner: str, seconds: float, now: float) -> None:
        """Let the owner have no turn for so many seconds."""
        if owner in self._lines:
            self._lines[owner].not_before = now + seconds
            return
        if len(self._paused) >= MAX_REMEMBERED:
            self._paused = {name: until for name, until in self._paused.items() if until > now}
        self._paused[owner] = now + seconds

    def _remember(self, owner: str, used: float) -> None:
        if len(self._remembered) >= MAX_REMEMBERED:
            above = {name: level for name, level in self._remembered.items() if level > self._level}
            self._remembered = above if len(above) < MAX_REMEMBERED else {}
        self._remembered[owner] = used
