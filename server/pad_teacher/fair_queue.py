"""The waiting line: of those who wait, whoever was given the fewest teacher tokens goes next, by key and then job."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class _Line(Generic[Item]):
    """Waiting items of one job with their costs, or the lines of one key; ``served`` counts tokens handed out."""

    served: float = 0.0
    items: deque[tuple[Item, int]] = field(default_factory=deque)
    lines: dict[str, "_Line[Item]"] = field(default_factory=dict)

    def enter(self, name: str) -> "_Line[Item]":
        """The line called ``name``; a new one starts level with the least served, not with credit from the past."""
        if name not in self.lines:
            level = min((line.served for line in self.lines.values()), default=0.0)
            self.lines[name] = _Line(served=level)
        return self.lines[name]

    def next_name(self) -> str:
        return min(self.lines, key=lambda name: self.lines[name].served)


class FairQueue(Generic[Item]):
    """Start-time fair queueing over (key, job), with token costs; not thread-safe: it lives on the event loop."""

    def __init__(self) -> None:
        self._root: _Line[Item] = _Line()
        self.tokens = 0

    def push(self, key: str, job: str, item: Item, cost: int) -> None:
        """Put ``item`` behind all that this job already waits for."""
        self._root.enter(key).enter(job).items.append((item, cost))
        self.tokens += cost

    def pop(self, budget: int) -> list[Item]:
        """The fairest batch whose costs add up to at most ``budget``; a larger item goes alone rather than never."""
        batch: list[Item] = []
        while self._root.lines:
            key = self._root.next_name()
            of_key = self._root.lines[key]
            job = of_key.next_name()
            of_job = of_key.lines[job]
            item, cost = of_job.items[0]
            if batch and cost > budget:
                break
            of_job.items.popleft()
            batch.append(item)
            budget -= cost
            self.tokens -= cost
            of_key.served += cost
            of_job.served += cost
            self._leave_if_empty(key, job)
        return batch

    def discard(self, key: str, job: str, unwanted: set[int]) -> list[Item]:
        """Drop and return the job's items whose ``id()`` is in ``unwanted``: their client left, or it is too late."""
        of_key = self._root.lines.get(key)
        of_job = of_key.lines.get(job) if of_key else None
        if of_job is None:
            return []
        dropped = [(item, cost) for item, cost in of_job.items if id(item) in unwanted]
        of_job.items = deque((item, cost) for item, cost in of_job.items if id(item) not in unwanted)
        self.tokens -= sum(cost for _, cost in dropped)
        self._leave_if_empty(key, job)
        return [item for item, _ in dropped]

    def _leave_if_empty(self, key: str, job: str) -> None:
        of_key = self._root.lines[key]
        if not of_key.lines[job].items:
            del of_key.lines[job]
        if not of_key.lines:
            del self._root.lines[key]
