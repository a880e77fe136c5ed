"""What a request need not have computed: rows that were scored before, or that others wait for at this moment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pad_teacher.cache.in_flight import InFlight, Unit
from pad_teacher.cache.row_keys import from_rows, only, row_keys, to_rows
from pad_teacher.cache.score_cache import ScoreCache
from pad_teacher.engines.base import Answer, FloatArray
from pad_teacher.engines.work import Work
from pad_teacher.runtime.metrics import Metrics


@dataclass(slots=True)
class Asked:
    """One request's works, and the units that are not known yet.

    ``keys`` are those of each work's rows (none at all where nothing is reused), ``known`` the rows by key.
    """

    works: Sequence[Work]
    units: list[Unit]
    keys: list[list[bytes]] = field(default_factory=list)
    known: dict[bytes, FloatArray] = field(default_factory=dict)

    @property
    def reused_tokens(self) -> int:
        """What the works cost less than by themselves, in teacher tokens."""
        return sum(work.cost for work in self.works) - sum(unit.work.cost for unit in self.units)

    def answers(self, results: Sequence[Answer]) -> list[Answer]:
        """The answer to each of the works, from the results of the units."""
        if not self.keys:
            return list(results)
        for unit, result in zip(self.units, results, strict=True):
            self.known.update(zip(unit.keys, to_rows(result), strict=True))
        return [
            from_rows(work.query, (self.known[key] for key in keys))
            for work, keys in zip(self.works, self.keys, strict=True)
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

    def ask(self, works: Sequence[Work]) -> Asked:
        """What is known of ``works``, and what is left to compute: each row once, whoever asks for it."""
        if self._cache is None:
            return Asked(works, [Unit((), work) for work in works])
        keys = [row_keys(self._scorer, work.query) for work in works]
        known = self._cache.get(key for of_work in keys for key in of_work)
        asked = Asked(works, [], keys, known)
        wanted = set(known)
        for work, of_work in zip(works, keys, strict=True):
            rows = {key: row for row, key in enumerate(of_work) if key not in wanted}
            wanted.update(rows)
            if rows:
                unit, shared = self._in_flight.join(list(rows), only(work, list(rows.values())))
                asked.units.append(unit)
                self._metrics.shared_in_flight.inc(shared)
        self._metrics.cache_hits.inc(len(known))
        self._metrics.cache_misses.inc(len(wanted) - len(known))
        return asked

    def keep(self, units: Sequence[Unit]) -> None:
        """Remember the results of ``units``."""
        if self._cache is not None:
            scored = ((unit.keys, to_rows(unit.result)) for unit in units if unit.result)
            self._cache.put(row for keys, rows in scored for row in zip(keys, rows, strict=True))
            self._metrics.cache_bytes.set(self._cache.bytes)

    def close(self) -> None:
        """Let go of the cache's file."""
        if self._cache is not None:
            self._cache.close()
