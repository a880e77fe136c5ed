"""What a request need not have computed: rows that were scored before, or that others wait for at this moment."""

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
class Asked:
    """One request's queries, and the units that are not known yet.

    ``keys`` are those of each query's rows (none at all where nothing is reused), ``known`` the rows by key.
    """

    queries: Sequence[Query]
    units: list[Unit]
    keys: list[list[bytes]] = field(default_factory=list)
    known: dict[bytes, FloatArray] = field(default_factory=dict)

    @property
    def reused_tokens(self) -> int:
        """Teacher tokens saved by reuse."""
        return sum(query.cost for query in self.queries) - sum(unit.query.cost for unit in self.units)

    def answers(self, results: Sequence[Answer]) -> list[Answer]:
        """The answer to each of the queries, from the results of the units."""
        if not self.keys:
            return list(results)
        for unit, result in zip(self.units, results, strict=True):
            self.known.update(zip(unit.keys, split_rows(result), strict=True))
        return [
            join_rows(query, (self.known[key] for key in keys))
            for query, keys in zip(self.queries, self.keys, strict=True)
        ]


class Reuse:
    """The cache and what is under way, of one teacher. Belongs to the thread that reads requests.

    With a ``limit`` of 0 bytes nothing is reused.
    """

    def __init__(self, scorer: str, metrics: Metrics, directory: Path | None, limit: int) -> None:
        # The version too: a fault of ours that changed scores must not outlive its repair.
        self._scorer = f"{scorer} {version('pad-service')}".encode()
        self._metrics = metrics
        self._in_flight = InFlight()
        self._cache = ScoreCache(directory, limit) if limit else None

    def ask(self, queries: Sequence[Query]) -> Asked:
        """What is known of ``queries``, and what is left to compute: each row once, whoever asks for it."""
        if self._cache is None:
            return Asked(queries, [Unit((), query) for query in queries])
        keys = [row_keys(self._scorer, query) for query in queries]
        known = self._cache.get(key for of_query in keys for key in of_query)
        asked = Asked(queries, [], keys, known)
        wanted = set(known)
        for query, of_query in zip(queries, keys, strict=True):
            rows = {key: row for row, key in enumerate(of_query) if key not in wanted}
            wanted.update(rows)
            if rows:
                unit, shared = self._in_flight.join(list(rows), subset(query, list(rows.values())))
                asked.units.append(unit)
                self._metrics.shared_in_flight.inc(shared)
        self._metrics.cache_hits.inc(len(known))
        self._metrics.cache_misses.inc(len(wanted) - len(known))
        return asked

    def keep(self, units: Sequence[Unit]) -> None:
        """Remember the results of ``units``."""
        if self._cache is not None:
            scored = ((unit.keys, split_rows(unit.result)) for unit in units if unit.result)
            self._cache.put(row for keys, rows in scored for row in zip(keys, rows, strict=True))
            self._metrics.cache_bytes.set(self._cache.bytes)

    def close(self) -> None:
        """Let go of the cache's file."""
        if self._cache is not None:
            self._cache.close()
