"""Reuse of scores: rows in the score cache, and rows in flight for another request, are not computed again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pad_teacher.cache.in_flight import InFlight, Unit
from pad_teacher.cache.row_keys import join_rows, row_keys, split_rows, subset
from pad_teacher.cache.score_cache import ScoreCache
from pad_teacher.engines.queries import Answer, FloatArray, Query
from pad_teacher.runtime.metrics import Metrics


@dataclass(slots=True)
class Remaining:
    """One request's queries, and the units that remain to be computed.

    ``keys`` are the row keys of each query (empty if nothing is reused), ``known`` the cached rows by key.
    """

    queries: Sequence[Query]
    units: list[Unit]
    keys: list[list[bytes]] = field(default_factory=list[list[bytes]])
    known: dict[bytes, FloatArray] = field(default_factory=dict[bytes, FloatArray])

    @property
    def reused_tokens(self) -> int:
        """Teacher tokens saved by reuse."""
        return sum(query.cost for query in self.queries) - sum(unit.query.cost for unit in self.units)

    def answers(self, results: Sequence[Answer]) -> list[Answer]:
        """The answer to each query, given the result of each unit."""
        if not self.keys:
            return list(results)
        for unit, result in zip(self.units, results, strict=True):
            self.known.update(zip(unit.keys, split_rows(result), strict=True))
        return [
            join_rows(query, (self.known[key] for key in keys))
            for query, keys in zip(self.queries, self.keys, strict=True)
        ]


class ScoreReuse:
    """The score cache and the units in flight of one teacher. Belongs to the reading thread.

    - A row is computed once, whichever requests ask for it and however often one request repeats it.
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

    def remaining(self, queries: Sequence[Query]) -> Remaining:
        """Look up ``queries``, and join or make the units of the rows that are not known."""
        if self._cache is None:
            return Remaining(queries, [Unit((), query) for query in queries])
        keys = [row_keys(self._scorer, query) for query in queries]
        known = self._cache.get(key for of_query in keys for key in of_query)
        remaining = Remaining(queries, [], keys, known)
        seen = set(known)
        for query, of_query in zip(queries, keys, strict=True):
            rows = {key: row for row, key in enumerate(of_query) if key not in seen}
            seen.update(rows)
            if rows:
                unit, shared = self._in_flight.join(list(rows), subset(query, list(rows.values())))
                remaining.units.append(unit)
                self._metrics.shared_in_flight.inc(shared)
        self._metrics.cache_hits.inc(len(known))
        self._metrics.cache_misses.inc(len(seen) - len(known))
        return remaining

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
