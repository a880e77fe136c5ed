"""Rows packed into one sequence, in which each shared prefix is there once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pad_teacher.engines.embedded.rows import MIN_SHARED
from pad_teacher.engines.queries import IntArray, shared_tokens

MAX_DEPTH = 4  # levels of the tree; rows that share more prefixes than that repeat tokens


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens [start, stop) of the packed sequence, which all of its descendants, [stop, below), see.

    ``position`` is the position of its first token in every row that contains it, ``deepest`` the largest position of
    its own tokens and its descendants'.
    """

    start: int
    stop: int
    below: int
    position: int
    deepest: int
    depth: int


@dataclass(slots=True)
class PrefixTree:
    """The packed sequence, with its nodes in depth-first order, so that a node's descendants come right after it.

    ``places`` holds for each row the place of each of its tokens in the packed sequence.
    """

    ids_T: IntArray
    positions_T: IntArray
    nodes: list[Node]
    places: list[IntArray]
    windows: list[int | None] = field(default_factory=list[int | None])  # that attention layers were called with


def pack(rows: Sequence[IntArray]) -> PrefixTree:
    """Pack the token ids of several rows, each of at least one token."""
    # Sorting by bytes brings rows with the same prefix together.
    order = sorted(range(len(rows)), key=lambda i: rows[i].tobytes())
    sequences = [rows[i] for i in order]
    shared = [shared_tokens(a, b) for a, b in pairwise(sequences)]
    builder = _TreeBuilder(sequences, shared)
    builder.add(0, len(rows), 0, 0)
    places: list[IntArray] = [np.zeros(0, np.int64)] * len(rows)
    for i, parts in zip(order, builder.paths, strict=True):
        places[i] = np.concatenate(parts)
    positions = [np.arange(node.position, node.position + node.stop - node.start) for node in builder.nodes]
    return PrefixTree(np.concatenate(builder.pieces), np.concatenate(positions), builder.nodes, places)


class _TreeBuilder:
    """The tree while it grows, from rows sorted so that those with a common prefix are neighbours."""

    def __init__(self, sequences: list[IntArray], shared: list[int]) -> None:
        self.sequences = sequences
        self.shared = shared
        self.nodes: list[Node] = []
        self.pieces: list[IntArray] = []
        self.paths: list[list[IntArray]] = [[] for _ in sequences]
        self.size = 0

    def add(self, first: int, end: int, begin: int, depth: int) -> int:
        """Add the tokens of rows ``first`` to ``end`` after their first ``begin``; return the largest position."""
        deepest = 0
        for low, high in self._runs(first, end, begin, depth):
            stop = min(self.shared[low : high - 1], default=len(self.sequences[low]))
            if stop > begin:
                deepest = max(deepest, self._add_node(low, high, begin, stop, depth))
        return deepest

    def _add_node(self, low: int, high: int, begin: int, stop: int, depth: int) -> int:
        at, start = len(self.nodes), self.size
        self.size += stop - begin
        place = np.arange(start, self.size)
        self.pieces.append(self.sequences[low][begin:stop])
        for path in self.paths[low:high]:
            path.append(place)
        self.nodes.append(Node(start, self.size, self.size, begin, stop - 1, depth))
        if high - low > 1:
            deepest = max(stop - 1, self.add(low, high, stop, depth + 1))
            self.nodes[at] = Node(start, start + stop - begin, self.size, begin, deepest, depth)
        return self.nodes[at].deepest

    def _runs(self, first: int, end: int, begin: int, depth: int) -> Iterator[tuple[int, int]]:
        """Runs of neighbours that share enough tokens after ``begin``, or are equal."""
        low = first
        for high in range(first + 1, end + 1):
            if high < end:
                shared = self.shared[high - 1]
                equal = shared == len(self.sequences[high]) == len(self.sequences[high - 1])
                if equal or (shared >= begin + MIN_SHARED and depth < MAX_DEPTH):
                    continue
            yield low, high
            low = high
