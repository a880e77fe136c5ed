"""Reuse of scores: rows in the score cache, and rows in flight for another request, are not computed again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pad_teacher.cache.in_flight import InFlight, Unit
from pad_teacher.cache.row_keys import (
    answers_for,
    depth,
    join_rows,
    number_of_rows,
    row_keys,
    split_rows,
    subset,
)
from pad_teacher.cache.score_cache import ScoreCache
from pad_teacher.engines.queries import Answer, AnyQuery, FloatArray
from pad_teacher.runtime.metrics import Metrics
from pad_teacher.runtime.reading_thread import Steps

ROWS_A_STEP = 512  # a few milliseconds


@dataclass(slots=True)
class Remaining:
    """One request's queries, and the units that remain to be computed.

    ``keys`` are the row keys of each query (empty if nothing is reused), ``known`` the cached rows by key.
    """

    queries: Sequence[AnyQuery]
    units: list[Unit]
    keys: list[list[bytes]] = field(default_factory=list[list[bytes]])
    known: dict[bytes, FloatArray] = field(default_factory=dict[bytes, FloatArray])

    @property
    def reused_tokens(self) -> int:
        """Teacher tokens saved by reuse."""
        return sum(query.cost for query in self.queries) - sum(unit.query.cost for unit in self.units)

    def answers(self, results: Sequence[Answer]) -> Steps[list[Answer]]:
        """The answer to each query, given the result of each unit."""
        if not self.keys:
            return list(results)
        for unit, result in zip(self.units, results, strict=True):
            self.known.update(zip(unit.keys, split_rows(result), strict=True))
            yield
        answers: list[Answer] = []
        for query, keys in zip(self.queries, self.keys, strict=True):
            answers.append(join_rows(query, (self.known[key] for key in keys)))
            yield
        return answers


class ScoreReuse:
    """The score cache and the units in flight of one teacher. Belongs to the reading thread.

    - A row in the cache is not computed again, and a row that one request repeats is computed once.
    - Of two requests under way, the same rows of a query are computed once; queries that share only some of their
      rows compute these each.
    - Rows of another teacher, engine or version of this package are never reused.
    """

    def __init__(self, scorer: str, metrics: Metrics, directory: Path | None, limit: int) -> None:
        """Open the cache.

        Args:
            scorer: the teacher's fingerprint and its engine.
            metrics: shown hits, misses, shared units and the size of the cache.
            directory: folder of the cache file; None keeps the cache in memory.
            limit: bytes of the cache; 0 means that nothing is reused.
        """
        # With the version, so that scores that a fault of ours has changed do not outlive its repair.
        self._scorer = f"{scorer} {version('pad-service')}".encode()
        self._metrics = metrics
        self._in_flight = InFlight()
        self._cache = ScoreCache(directory, limit) if limit else None

    @property
    def in_flight(self) -> list[Unit]:
        """The units that requests wait for."""
        return self._in_flight.units

    def remaining(
        self, queries: Sequence[AnyQuery], known: Mapping[bytes, FloatArray] | None = None
    ) -> Steps[Remaining]:
        """Look up ``queries``, and join or make the units of the rows that are not ``known`` either."""
        if self._cache is None:
            return Remaining(queries, [Unit((), query) for query in queries])
        remaining = Remaining(queries, [], known=dict(known or {}))
        seen = set(remaining.known)
        for some in _parts(queries):
            self._look_up(self._cache, some, remaining, seen)
            yield
        asked = {key for of_query in remaining.keys for key in of_query}
        hits = len(asked & remaining.known.keys())
        self._metrics.cache_hits.inc(hits)
        self._metrics.cache_misses.inc(len(asked) - hits)
        return remaining

    def most_cost(self, queries: Sequence[AnyQuery], first: Remaining) -> Steps[int]:
        """The most tokens that ``queries`` can cost after those of ``first``, which learns their cached rows."""
        if self._cache is None:
            return sum(query.cost for query in queries)
        cost = 0
        for some in _parts(queries):
            keys = [row_keys(self._scorer, query) for query in some]
            asked = (key for of_query in keys for key in of_query if key not in first.known)
            first.known.update(self._cache.get(asked))
            for query, of_query in zip(some, keys, strict=True):
                # Each query by itself: a row that two of them have may be asked for either.
                rows = {key: row for row, key in enumerate(of_query) if key not in first.known}
                cost += subset(query, list(rows.values())).cost if rows else 0
            yield
        return cost

    def keep(self, units: Sequence[Unit]) -> None:
        """Put the results of ``units`` into the cache."""
        if self._cache is not None:
            scored = ((unit.keys, split_rows(unit.result)) for unit in units if unit.result)
            self._cache.put(row for keys, rows in scored for row in zip(keys, rows, strict=True))
            self._metrics.cache_bytes.set(self._cache.bytes)

    def close(self) -> None:
        """Close the cache's file."""
        if self._cache is not None:
            self._cache.close()

    def _look_up(
        self, cache: ScoreCache, queries: Sequence[AnyQuery], remaining: Remaining, seen: set[bytes]
    ) -> None:
        """Add ``queries`` to ``remaining``; ``seen`` are the keys that it has already."""
        keys = [row_keys(self._scorer, query) for query in queries]
        remaining.keys.extend(keys)
        known = cache.get(key for of_query in keys for key in of_query if key not in seen)
        for query, of_query in zip(queries, keys, strict=True):
            for row, key in enumerate(of_query):
                if key in known and not answers_for(query, row, known[key]):
                    del known[key]
        remaining.known.update(known)
        seen.update(known)
        for query, of_query in zip(queries, keys, strict=True):
            rows = {key: row for row, key in enumerate(of_query) if key not in seen}
            seen.update(rows)
            if rows:
                unit, shared = self._in_flight.join(list(rows), subset(query, list(rows.values())), depth(query))
                remaining.units.append(unit)
                self._metrics.shared_in_flight.inc(shared)


def _parts(queries: Sequence[AnyQuery]) -> Iterator[list[AnyQuery]]:
    """The queries in lists of about ``ROWS_A_STEP`` rows."""
    part: list[AnyQuery] = []
    rows = 0
    for query in queries:
        part.append(query)
        rows += number_of_rows(query)
        if rows >= ROWS_A_STEP:
            yield part
            part, rows = [], 0
    if part:
        yield part
