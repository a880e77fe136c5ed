"""The room in the queue: bounded, and each owner's by weight once it is full."""

from collections import Counter


class Places:
    """Waiting teacher tokens of each owner: a key, or a job where there are no keys. Lives on the event loop."""

    def __init__(self, most: int) -> None:
        self.tokens = 0
        self._most = most
        self._held: Counter[str] = Counter()
        self._weights: dict[str, float] = {}
        self._weight = 0.0  # of all who hold any

    def has_room(self, owner: str, weight: float, cost: int) -> bool:
        """Whether ``cost`` more tokens may wait: a full queue still takes what an owner's share of it holds."""
        if self.tokens + cost <= self._most:
            return True
        others = self._weight - self._weights.get(owner, 0.0)
        return self._held[owner] + cost <= self._most * weight / (others + weight)

    def hold(self, owner: str, weight: float, tokens: int) -> None:
        """Take ``tokens`` for an owner, whose weight may have changed."""
        self._weight += weight - self._weights.get(owner, 0.0)
        self._weights[owner] = weight
        self._held[owner] += tokens
        self.tokens += tokens

    def free(self, owner: str, tokens: int) -> None:
        """Give back tokens that no longer wait."""
        self.tokens -= tokens
        self._held[owner] -= tokens
        if not self._held[owner]:
            del self._held[owner]
            self._weight -= self._weights.pop(owner)
        if not self._weights:
            self._weight = 0.0  # and with it what rounding left
