"""Scores that were computed before, in SQLite: bounded, checked as they are read, and never a reason to fail.

Whatever happens to the file, the service goes on without what was in it: scores can always be computed again.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog

from pad_teacher.engines.queries import FloatArray

log = structlog.get_logger()

T = TypeVar("T")

FILE = "scores.sqlite3"
WAIT_SECONDS = 0.05  # for another process that writes: to compute a row again costs little more
AT_ONCE = 4096  # rows of one statement: 1,024 sets of 4 responses; many more would hold up other threads
EVICTED = 64  # rows at a time
MAX_TOUCHED = 100_000  # rows whose last use is kept in memory until it is written

# What passes by itself, or when somebody makes room; any other error means that the file cannot be used as it is.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}

# An id is the first 8 bytes of a row's 32-byte key: found by number, without an index beside the table. The checksum
# covers the whole key and the value, so that neither a changed byte nor a key with the same id is taken for the row.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    id INTEGER PRIMARY KEY, used INTEGER NOT NULL, checksum BLOB NOT NULL, value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON scores (used);
"""
_GET = "SELECT id, checksum, value FROM scores WHERE id IN (SELECT value FROM json_each(?))"
_TOUCH = "UPDATE scores SET used = ? WHERE id IN (SELECT value FROM json_each(?))"
_PUT = "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM scores WHERE id IN (SELECT value FROM json_each(?))"
_EVICT = "DELETE FROM scores WHERE id IN (SELECT id FROM scores ORDER BY used LIMIT ?)"


class ScoreCache:
    """float32 arrays by 32-byte key; the least recently used go first. Belongs to one thread.

    ``directory`` is where the file lies (None: memory alone), ``limit`` its size in bytes.
    """

    def __init__(self, directory: Path | None, limit: int) -> None:
        self._file = directory / FILE if directory else None
        self._limit = limit
        self._open: sqlite3.Connection | None = None
        self._touched: set[int] = set()
        self._warned = False
        self.bytes = 0
        with self._going_on():
            self._database()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, FloatArray]:
        """What is known of ``keys``; a row that is not as it was written is dropped."""
        found: dict[bytes, FloatArray] = {}
        with self._going_on():
            for some in _parts(keys):
                self._look_up({_id(key): key for key in some}, found)
            if len(self._touched) > MAX_TOUCHED:
                self._write({})
        return found

    def put(self, rows: Iterable[tuple[bytes, FloatArray]]) -> None:
        """Keep ``rows``, and drop the least recently used past the limit; values that are not finite are not kept."""
        with self._going_on():
            self._write({key: value.astype("<f4").tobytes() for key, value in rows if np.isfinite(value).all()})

    def close(self) -> None:
        """Write what was used last, and let go of the file."""
        with self._going_on():
            self._write({})
        if self._open is not None:
            self._open.close()
            self._open = None

    def _look_up(self, wanted: dict[int, bytes], found: dict[bytes, FloatArray]) -> None:
        damaged: list[int] = []
        for number, checksum, value in self._database().execute(_GET, (json.dumps(list(wanted)),)):
            key = wanted.get(number, b"")
            if isinstance(value, bytes) and checksum == _checksum(key, value):
                found[key] = np.frombuffer(value, "<f4")
                self._touched.add(number)
            else:
                damaged.append(number)
        if damaged:
            log.warning("damaged rows of the score cache were dropped", rows=len(damaged), file=str(self._file))
            with self._database() as database:
                database.execute(_DROP, (json.dumps(damaged),))

    def _write(self, rows: dict[bytes, bytes]) -> None:
        # What was read is noted only here: until something is written, nothing is evicted.
        touched, self._touched = self._touched, set()
        with self._database() as database:  # one transaction: all of it or nothing
            now = time.time_ns()
            database.executemany(_TOUCH, ((now, json.dumps(some)) for some in _parts(touched)))
            now = time.time_ns()
            database.executemany(_PUT, ((_id(key), now, _checksum(key, value), value) for key, value in rows.items()))
            self._evict(database)

    def _evict(self, database: sqlite3.Connection) -> None:
        while (used := _size(database, free=False)) > self._limit:
            if not database.execute(_EVICT, (EVICTED,)).rowcount:
                break
        self.bytes = used

    def _database(self) -> sqlite3.Connection:
        if self._open is None:
            if self._file:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._file or ":memory:", timeout=WAIT_SECONDS)
            try:
                self._prepare(database)
            except BaseException:
                database.close()
                raise
            self._open = database
        return self._open

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.text_factory = bytes
        database.execute("PRAGMA journal_mode = WAL")
        # Safe when the process or the machine dies, and no wait for the disk at each write: what was written last may
        # be missing after a power cut, and is computed again.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        with database:
            self._evict(database)
        if _size(database, free=True) > self._limit:  # the limit was larger before
            database.execute("VACUUM")

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Whatever goes wrong in the block ends it, and is said once."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF  # without what extends it
            # A damaged table's name in SQLite's own message may be no text any more.
            if code not in _PASSING or isinstance(error, UnicodeDecodeError):
                log.warning("the score cache could not be used and was begun anew", **self._about(error))
                self._set_aside()
            elif not self._warned:
                log.warning("the score cache cannot be used for now", **self._about(error))
                self._warned = True

    def _about(self, error: Exception) -> dict[str, str]:
        return {"reason": str(error), "file": str(self._file or "in memory")}

    def _set_aside(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._file is None:
            return
        try:
            self._file.replace(self._file.with_suffix(".broken"))
            for beside in ("-wal", "-shm"):
                self._file.with_name(FILE + beside).unlink(missing_ok=True)
        except OSError:
            self._file = None  # it can neither be read nor moved: memory alone from here on


def _size(database: sqlite3.Connection, *, free: bool) -> int:
    """Bytes of the database, with or without the pages that hold nothing."""
    pages, empty, page = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return page * (pages if free else pages - empty)


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def _id(key: bytes) -> int:
    return int.from_bytes(key[:8], "big", signed=True)


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=16).digest()
