"""The floor: the operations that any exact scorer needs for one workload."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.shapes import Shape


@dataclass(frozen=True, slots=True)
class Floor:
    """FLOP of one workload. ``linear`` and ``head`` are the floor; attention is reported next to it."""

    linear: int
    head: int
    attention: int
    tokens: int  # each prompt token once, and each response token

    @property
    def flop(self) -> int:
        """Matrix products with weights: 2 FLOP a weight and token."""
        return self.linear + self.head


def floor_of(shape: Shape, sets: Sequence[dict[str, Any]]) -> Floor:
    """Count each prompt token once. A response's last token is predicted but not read."""
    read = scored = attended = tokens = 0
    for item in sets:
        prompt = len(item["prompt_ids"])
        read += prompt
        tokens += prompt
        attended += prompt * (prompt + 1) // 2
        for ids in item["response_ids"]:
            rest = len(ids) - 1
            read += rest
            scored += len(ids)
            tokens += len(ids)
            attended += rest * prompt + rest * (rest + 1) // 2
    # Scores and their sum of values: two products of head_size for each head and attended position.
    attention = 4 * shape.layers * shape.heads * shape.head_size * attended
    return Floor(2 * shape.layer_weights * read, 2 * shape.head_weights * scored, attention, tokens)
