"""The room in the queue: bounded, and divided between owners by weight once it is full."""

from collections import Counter


class QueueRoom:
    """Waiting teacher tokens of each owner (a key, or a job if there are no keys). Belongs to the event loop.

    - ``tokens`` is the sum of what all owners hold.
    - Below ``limit`` tokens there is room for anybody; above it, for an owner that holds less than its share: its
      weight's part of the limit, among the owners that hold any.
    - An owner that holds nothing is forgotten.
    """

    def __init__(self, limit: int) -> None:
        self.tokens = 0
        self._limit = limit
        self._held: Counter[str] = Counter()
        self._weights: dict[str, float] = {}
        self._weight = 0.0  # of all owners that hold any

    @property
    def owners(self) -> dict[str, int]:
        """The tokens that each owner holds."""
        return dict(self._held)

    def has_room(self, owner: str, weight: float, cost: int) -> bool:
        """Whether ``cost`` more tokens of the owner may wait."""
        if self.tokens + cost <= self._limit:
            return True
        others = self._weight - self._weights.get(owner, 0.0)
        return self._held[owner] + cost <= self._limit * weight / (others + weight)

    def hold(self, owner: str, weight: float, tokens: int) -> None:
        """Take room for an owner, whose weight may have changed."""
        self._weight += weight - self._weights.get(owner, 0.0)
        self._weights[owner] = weight
        self._held[owner] += tokens
        self.tokens += tokens

    def free(self, owner: str, tokens: int) -> None:
        """Give back the room of tokens that no longer wait."""
        self.tokens -= tokens
        self._held[owner] -= tokens
        if not self._held[owner]:
            del self._held[owner]
            self._weight -= self._weights.pop(owner)
        if not self._weights:
            self._weight = 0.0  # without the rounding errors of the sums before
