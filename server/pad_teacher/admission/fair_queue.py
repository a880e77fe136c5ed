"""The waiting line: whoever was given the fewest teacher tokens for its weight goes next, by key and then job."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, TypeVar

Item = TypeVar("Item")

# It all runs on the event loop: what one batch may cost it is bounded, however many wait.
LOOK_AHEAD = 32  # items that one batch may pass over because they are too large for what is left of it
MAX_ITEMS = 512  # of one batch
MAX_LEFT = 256  # lines remembered although nothing waits in them


@dataclass(slots=True, eq=False)
class Group(Generic[Item]):
    """What one request waits for, with costs: made off the event loop, so that it enters and leaves in one step."""

    items: deque[tuple[Item, int]]
    tokens: int

    @classmethod
    def of(cls, items: Iterable[tuple[Item, int]]) -> "Group[Item]":
        """A group of items and their costs."""
        waiting = deque(items)
        return cls(waiting, sum(cost for _, cost in waiting))


@dataclass(slots=True, eq=False)
class _Line(Generic[Item]):
    """Waiting groups of one job, or the lines of one key; ``served`` counts tokens handed out, over the weight."""

    name: str
    number: int
    served: float
    weight: float
    inside: "_Lines[Item]"
    groups: deque[Group[Item]] = field(default_factory=deque)

    def take(self, budget: float, passed: int, most: int) -> tuple[tuple[Item, int] | None, int]:
        """The first item of at most ``budget`` past the first ``passed``, and how many have been passed by then."""
        skip = passed
        for group in self.groups:
            while skip < len(group.items):
                item, cost = group.items[skip]
                if cost <= budget:
                    del group.items[skip]
                    group.tokens -= cost
                    if not group.items:
                        self.groups.remove(group)
                    return (item, cost), passed
                if passed >= most:
                    return None, passed
                passed, skip = passed + 1, skip + 1
            skip -= len(group.items)
        return None, passed


class _Lines(Generic[Item]):
    """Lines by name, of which the least served is found without a look at the others."""

    def __init__(self, credit: float) -> None:
        self._credit = credit
        self.lines: dict[str, _Line[Item]] = {}
        self._heap: list[tuple[float, int, _Line[Item]]] = []  # some out of date: only those as served are true
        self._entered = 0
        self._level = 0.0  # where whoever was served last began: there new lines start while nobody waits
        self._left: dict[str, _Line[Item]] = {}

    def enter(self, name: str, weight: float) -> _Line[Item]:
        """The line called ``name``; a new one starts level with the least served.

        One that comes back goes on from where it was: whoever had more than its share has not had less for leaving,
        and whoever used less goes first, with the queue's credit at most.
        """
        if name not in self.lines:
            least = self.least()
            level = least.served if least else self._level
            self._entered += 1
            line = self._left.pop(name, None) or _Line(name, 0, level, weight, _Lines(self._credit))
            line.served, line.number = max(line.served, level - self._credit / weight), self._entered
            self.lines[name] = line
            self.put_back(line)
        self.lines[name].weight = weight
        return self.lines[name]

    def leave(self, line: _Line[Item]) -> None:
        """Take out a line in which nothing waits."""
        del self.lines[line.name]
        if len(self._left) == MAX_LEFT:
            self._left.clear()  # they are level when they come back: it was little that they were ahead or behind
        self._left[line.name] = line

    def least(self) -> _Line[Item] | None:
        while self._heap:
            served, number, line = self._heap[0]
            if self.lines.get(line.name) is line and (line.served, line.number) == (served, number):
                return line
            heappop(self._heap)
        return None

    def set_aside(self) -> None:
        """Leave the least served out until it is put back."""
        heappop(self._heap)

    def put_back(self, line: _Line[Item]) -> None:
        heappush(self._heap, (line.served, line.number, line))
        if len(self._heap) > 2 * len(self.lines) + 64:  # of lines that were discarded
            self._heap = [(each.served, each.number, each) for each in self.lines.values()]
            heapify(self._heap)

    def charge(self, line: _Line[Item], cost: int) -> None:
        self._level = line.served
        line.served += cost / line.weight
        self.put_back(line)


class FairQueue(Generic[Item]):
    """Start-time fair queueing over (key, job), with token costs; not thread-safe: it lives on the event loop.

    ``pays`` is asked once of each item as its turn comes. One that does not pay comes along free: it takes nothing of
    the batch's budget and is not charged to its job. ``credit`` is how many tokens of its unused share a key or job
    finds again when it comes back: with them a polite one's request goes first. Over time nobody gets more than its
    share for it.
    """

    def __init__(self, credit: int = 0, pays: Callable[[Item], bool] = lambda _: True) -> None:
        self._pays = pays
        self._root: _Lines[Item] = _Lines(credit)
        self._passed_over: tuple[_Line[Item], _Line[Item], Group[Item]] | None = None
        self.tokens = 0

    def push(self, key: str, job: str, group: Group[Item], weight: float = 1.0) -> None:
        """Put ``group`` behind all that this job already waits for; ``weight`` is the key's, its jobs are equal."""
        if group.items:
            self._root.enter(key, weight).inside.enter(job, 1.0).groups.append(group)
            self.tokens += group.tokens

    def pop(self, budget: int) -> list[Item]:
        """The fairest batch whose costs add up to at most ``budget``; a larger item goes alone rather than never.

        An item too large for what is left of the budget is passed over for others that fit, and is then the first of
        the next batch: it waits for one batch more, and no batch is sent half empty because of it.
        """
        batch: list[Item] = []
        passed: Counter[_Line[Item]] = Counter()
        aside: list[tuple[_Lines[Item], _Line[Item]]] = []
        looks = LOOK_AHEAD
        first, self._passed_over = self._passed_over, None
        while budget > 0 and len(batch) < MAX_ITEMS and (lines := first or self._next(aside)):
            of_key, of_job = lines[:2]
            before = passed[of_job]
            taken, passed[of_job] = of_job.take(budget if batch else inf, before, before + looks)
            looks -= passed[of_job] - before
            if passed[of_job] and not self._passed_over:  # then it is the one that its job has waited for longest
                self._passed_over = of_key, of_job, of_job.groups[0]
            if taken:
                item, cost = taken
                batch.append(item)
                self.tokens -= cost
                if self._pays(item):
                    budget -= cost
                    self._root.charge(of_key, cost)
                    of_key.inside.charge(of_job, cost)
                self._leave_if_empty(of_key, of_job)
            elif looks:
                of_key.inside.set_aside()
                aside.append((of_key.inside, of_job))
            else:
                break
            first = None
        for lines_of, line in aside:
            lines_of.put_back(line)
        return batch

    def discard(self, key: str, job: str, group: Group[Item]) -> int:
        """Drop what is left of ``group``, whose client left or is too late; returns its tokens."""
        of_key = self._root.lines.get(key)
        of_job = of_key.inside.lines.get(job) if of_key else None
        if of_key is None or of_job is None or group not in of_job.groups:
            return 0
        of_job.groups.remove(group)
        if self._passed_over and self._passed_over[2] is group:
            self._passed_over = None
        self.tokens -= group.tokens
        self._leave_if_empty(of_key, of_job)
        return group.tokens

    def _next(self, aside: list[tuple[_Lines[Item], _Line[Item]]]) -> tuple[_Line[Item], _Line[Item]] | None:
        """Whose turn it is: the least served key with a job that is not set aside, and that job."""
        while of_key := self._root.least():
            if of_job := of_key.inside.least():
                return of_key, of_job
            self._root.set_aside()
            aside.append((self._root, of_key))
        return None

    def _leave_if_empty(self, of_key: _Line[Item], of_job: _Line[Item]) -> None:
        if not of_job.groups:
            of_key.inside.leave(of_job)
        if not of_key.inside.lines:
            self._root.leave(of_key)
