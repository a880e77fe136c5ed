"""The queue's order: the key that was served the fewest teacher tokens for its weight goes next, then so its jobs."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, TypeVar

Item = TypeVar("Item")

# Batches are chosen on the event loop: these bound the time of one choice, however many items wait.
LOOK_AHEAD = 32  # items that one batch may pass over because they are too large for the rest of its budget
MAX_ITEMS = 512  # in one batch
MAX_REMEMBERED = 256  # lines in which nothing waits


@dataclass(slots=True, eq=False)
class Group(Generic[Item]):
    """The items of one request with their costs, made off the event loop: it enters and leaves in one step."""

    items: deque[tuple[Item, int]]
    tokens: int

    @classmethod
    def of(cls, items: Iterable[tuple[Item, int]]) -> "Group[Item]":
        """A group of items and their costs."""
        waiting = deque(items)
        return cls(waiting, sum(cost for _, cost in waiting))


@dataclass(slots=True, eq=False)
class _Line(Generic[Item]):
    """The groups of one job, or the jobs of one key; ``served`` is tokens handed out, divided by the weight."""

    name: str
    number: int  # order of arrival, for lines that were served alike
    served: float
    weight: float
    inside: "_Lines[Item]"
    groups: deque[Group[Item]] = field(default_factory=deque[Group[Item]])
    passed: int = 0  # items passed over by the batch that is being chosen

    def take(self, budget: float, looks: int) -> tuple[Item, int] | None:
        """Take out the first item of at most ``budget`` tokens; pass over at most ``looks`` items more for it."""
        most = self.passed + looks
        skip = self.passed
        for group in self.groups:
            while skip < len(group.items):
                item, cost = group.items[skip]
                if cost <= budget:
                    del group.items[skip]
                    group.tokens -= cost
                    if not group.items:
                        self.groups.remove(group)
                    return item, cost
                if self.passed >= most:
                    return None
                self.passed, skip = self.passed + 1, skip + 1
            skip -= len(group.items)
        return None


class _Lines(Generic[Item]):
    """Lines by name, with the least served found in logarithmic time.

    - Each line in ``lines`` has a current entry in the heap, unless ``pop_least`` took it out.
    - Deletion is lazy: an entry counts only if it matches its line's present ``served`` and ``number``.
    - The heap has at most twice as many entries as lines, and 64.
    """

    def __init__(self, credit: float) -> None:
        self._credit = credit
        self.lines: dict[str, _Line[Item]] = {}
        self.remembered: dict[str, _Line[Item]] = {}  # nothing waits in these
        self._heap: list[tuple[float, int, _Line[Item]]] = []
        self._entered = 0
        self._virtual_time = 0.0  # newcomers start here if nobody waits: the level at which the last one served began

    def enter(self, name: str, weight: float) -> _Line[Item]:
        """The line called ``name``; a new one starts level with the least served.

        One that returns goes on from its old level. Overuse carries over; so does unused share, up to the credit.
        """
        if name not in self.lines:
            least = self.least()
            level = least.served if least else self._virtual_time
            self._entered += 1
            line = self.remembered.pop(name, None) or _Line(name, 0, level, weight, _Lines(self._credit))
            line.served, line.number = max(line.served, level - self._credit / weight), self._entered
            self.lines[name] = line
            self.put_back(line)
        self.lines[name].weight = weight
        return self.lines[name]

    def leave(self, line: _Line[Item]) -> None:
        """Take out a line in which nothing waits."""
        del self.lines[line.name]
        if len(self.remembered) == MAX_REMEMBERED:
            self.remembered.clear()  # each returns as a newcomer, level with the least served
        self.remembered[line.name] = line

    def find(self, name: str) -> _Line[Item] | None:
        """The line called ``name``, if it is known."""
        return self.lines.get(name) or self.remembered.get(name)

    def least(self) -> _Line[Item] | None:
        """The least served line."""
        while self._heap:
            served, number, line = self._heap[0]
            if self.lines.get(line.name) is line and (line.served, line.number) == (served, number):
                return line
            heappop(self._heap)
        return None

    def pop_least(self) -> None:
        """Leave the least served line out of the order until it is put back; ``least`` has just returned it."""
        heappop(self._heap)

    def put_back(self, line: _Line[Item]) -> None:
        """Give the line its place in the order."""
        heappush(self._heap, (line.served, line.number, line))
        if len(self._heap) > 2 * len(self.lines) + 64:
            self._heap = [(each.served, each.number, each) for each in self.lines.values()]
            heapify(self._heap)

    def charge(self, line: _Line[Item], cost: int) -> None:
        """Count tokens as handed out to the line."""
        self._virtual_time = line.served
        line.served += cost / line.weight
        self.put_back(line)


class FairQueue(Generic[Item]):
    """Start-time fair queueing over keys and their jobs, in tokens. Belongs to the event loop.

    - The next item is the first of the least served job of the least served key: it is served by weight, and a key
      gains nothing by naming many jobs.
    - A batch costs at most its budget, except that a larger item goes alone rather than never.
    - An item too large for the rest of the budget is passed over, and is the first of the next batch.
    - An item that does not pay takes nothing of the budget and is charged to nobody.
    - A key or job that returns has at most ``credit`` tokens more than one that has always waited.
    - ``tokens`` is the cost of all items in the queue.
    """

    def __init__(self, credit: int = 0, pays: Callable[[Item], bool] = lambda _: True) -> None:
        """Make an empty queue.

        Args:
            credit: tokens of its unused share that a returning key or job may spend by going first.
            pays: asked once about each item, when its turn has come.
        """
        self.tokens = 0
        self._pays = pays
        self._root: _Lines[Item] = _Lines(credit)
        self._passed_over: tuple[_Line[Item], _Line[Item], Group[Item]] | None = None

    @property
    def jobs(self) -> set[tuple[str, str]]:
        """The (key, job) pairs of which items wait."""
        return {(key.name, job) for key in self._root.lines.values() for job in key.inside.lines}

    @property
    def remembered(self) -> int:
        """How many keys and jobs are known although nothing of theirs waits."""
        keys = (*self._root.lines.values(), *self._root.remembered.values())
        return len(self._root.remembered) + sum(len(key.inside.remembered) for key in keys)

    def served(self, key: str, job: str) -> float:
        """The job's place in its key's order: the tokens handed out to it, from the level at which it started."""
        of_key = self._root.find(key)
        of_job = of_key.inside.find(job) if of_key else None
        return of_job.served if of_job else 0.0

    def push(self, key: str, job: str, group: Group[Item], weight: float = 1.0) -> None:
        """Queue ``group`` after all that waits for this job; ``weight`` is the key's, and its jobs are equal."""
        if group.items:
            self._root.enter(key, weight).inside.enter(job, 1.0).groups.append(group)
            self.tokens += group.tokens

    def pop(self, budget: int) -> list[Item]:
        """Take out the next batch, whose costs add up to at most ``budget``."""
        batch: list[Item] = []
        looks = LOOK_AHEAD
        exhausted: set[_Line[Item]] = set()
        with closing(self._turns(exhausted)) as turns:
            for key, job in turns:
                before = job.passed
                taken = job.take(budget if batch else inf, looks)
                looks -= job.passed - before
                if job.passed and not self._passed_over:
                    self._passed_over = key, job, job.groups[0]  # the group that its job has waited for longest
                if taken:
                    item, cost = taken
                    batch.append(item)
                    budget -= self._charge(key, job, item, cost)
                    self._leave_if_empty(key, job)
                else:
                    exhausted.add(job)
                if budget <= 0 or len(batch) == MAX_ITEMS or not (taken or looks):
                    break
        return batch

    def discard(self, key: str, job: str, group: Group[Item]) -> int:
        """Take out the rest of ``group``; returns its tokens, 0 if it has left already."""
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

    def _turns(self, exhausted: set[_Line[Item]]) -> Generator[tuple[_Line[Item], _Line[Item]]]:
        """The key and the job whose turn it is, again and again, for one batch.

        The job that the last batch passed over comes first, then always the least served. The caller adds to
        ``exhausted`` the jobs that get no more turns.
        """
        aside: list[tuple[_Lines[Item], _Line[Item]]] = []
        seen: set[_Line[Item]] = set()
        try:
            if self._passed_over:
                key, job, _ = self._passed_over
                self._passed_over = None
                seen.add(job)
                yield key, job
            while key := self._root.least():
                job = key.inside.least()
                if job is None:  # all jobs of this key are exhausted
                    self._root.pop_least()
                    aside.append((self._root, key))
                elif job in exhausted:
                    key.inside.pop_least()
                    aside.append((key.inside, job))
                else:
                    seen.add(job)
                    yield key, job
        finally:
            for lines, line in aside:
                lines.put_back(line)
            for line in seen:
                line.passed = 0

    def _charge(self, key: _Line[Item], job: _Line[Item], item: Item, cost: int) -> int:
        """Count an item that leaves; returns the tokens that it takes of the batch's budget."""
        self.tokens -= cost
        if not self._pays(item):
            return 0
        self._root.charge(key, cost)
        key.inside.charge(job, cost)
        return cost

    def _leave_if_empty(self, key: _Line[Item], job: _Line[Item]) -> None:
        if not job.groups:
            key.inside.leave(job)
        if not key.inside.lines:
            self._root.leave(key)
