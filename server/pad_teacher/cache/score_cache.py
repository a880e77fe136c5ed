"""The score cache: rows in SQLite, bounded in size, checked when they are read, and never a reason to fail.

If the file is damaged, the service goes on without its rows: scores can always be computed again.
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
WAIT_SECONDS = 0.05  # for another process that writes; computing a row again takes little longer
ROWS_A_STATEMENT = 4096  # 1,024 sets of 4 responses; a longer statement would hold up other threads
EVICTED = 64  # rows of one eviction
MAX_TOUCHED = 100_000  # rows read, whose time of use has not been written yet

# Errors that pass by themselves or when somebody makes room. After any other, the file cannot be used.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}

# An id is the first 8 bytes of a row's 32-byte key, so the table needs no other index. The checksum covers the whole
# key and the value: it finds a changed byte, and another key with the same id.
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
    """float32 arrays by 32-byte key. Belongs to one thread.

    - A row that is returned is the row that was put: any other is dropped when it is read.
    - After each write the database has at most ``limit`` bytes; the least recently used rows are evicted first.
    - No method raises because of the file. What is wrong with it is logged once.
    - If the file was moved or deleted, the next write begins a new one.
    """

    def __init__(
        self, directory: Path | None, limit: int, connection: type[sqlite3.Connection] = sqlite3.Connection
    ) -> None:
        """Open ``scores.sqlite3`` in ``directory`` (None: in memory), of at most ``limit`` bytes.

        ``connection`` is the class of its connections.
        """
        self._connection = connection
        self._file = directory / FILE if directory else None
        self._limit = limit
        self._open: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # of the file that is open
        self._touched: set[int] = set()
        self._warned = False
        self.bytes = 0
        with self._errors_logged():
            self._database()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, FloatArray]:
        """The rows that are known of ``keys``; damaged rows are dropped."""
        found: dict[bytes, FloatArray] = {}
        with self._errors_logged():
            for some in _chunks(keys):
                self._look_up({_id(key): key for key in some}, found)
            if len(self._touched) > MAX_TOUCHED:
                self._write({})
        return found

    def put(self, rows: Iterable[tuple[bytes, FloatArray]]) -> None:
        """Keep ``rows``, and evict the least recently used; values that are not finite are not kept."""
        with self._errors_logged():
            self._write({key: value.astype("<f4").tobytes() for key, value in rows if np.isfinite(value).all()})

    def close(self) -> None:
        """Write the times of use, and close the file."""
        with self._errors_logged():
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
        if self._file and self._open and _identity(self._file) != self._identity:
            # Closed before the new one is opened: closing deletes the log of the old one, by its name.
            self._open.close()
            self._open = None
        # Times of use are written only here, as nothing is evicted before something is written.
        touched, self._touched = self._touched, set()
        with self._database() as database:  # one transaction
            now = time.time_ns()
            database.executemany(_TOUCH, ((now, json.dumps(some)) for some in _chunks(touched)))
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
            database = sqlite3.connect(self._file or ":memory:", timeout=WAIT_SECONDS, factory=self._connection)
            try:
                self._prepare(database)
            except BaseException:
                database.close()
                raise
            self._open, self._identity = database, _identity(self._file)
        return self._open

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.text_factory = bytes
        database.execute("PRAGMA journal_mode = WAL")
        # The file stays consistent if the process or the machine dies, and no write waits for the disk. After a power
        # cut the last rows may be missing; they are computed again.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        with database:
            self._evict(database)
        if _size(database, free=True) > self._limit:  # the limit was larger when it was written
            database.execute("VACUUM")

    @contextmanager
    def _errors_logged(self) -> Iterator[None]:
        """End the block on any error of the file, and log it once."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF  # the primary code
            # SQLite's own message may quote a damaged table's name, which is then no valid text.
            if code not in _PASSING or isinstance(error, UnicodeDecodeError):
                log.warning("the score cache was unusable: a new one was begun", **self._log_fields(error))
                self._set_aside()
            elif not self._warned:
                log.warning("the score cache cannot be used for now", **self._log_fields(error))
                self._warned = True

    def _log_fields(self, error: Exception) -> dict[str, str]:
        return {"reason": str(error), "file": str(self._file or "in memory")}

    def _set_aside(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._file is None:
            return
        try:
            self._file.replace(self._file.with_suffix(".broken"))
            for suffix in ("-wal", "-shm"):
                self._file.with_name(FILE + suffix).unlink(missing_ok=True)
        except OSError:
            self._file = None  # it can be neither read nor moved: use memory from now on


def _size(database: sqlite3.Connection, *, free: bool) -> int:
    """Bytes of the database, with or without its free pages."""
    pages, empty, page = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return page * (pages if free else pages - empty)


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Of the file that has this name now; None if there is none."""
    if file is None or not file.exists():
        return None
    status = file.stat()
    return status.st_dev, status.st_ino


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, ROWS_A_STATEMENT)):
        yield some


def _id(key: bytes) -> int:
    return int.from_bytes(key[:8], "big", signed=True)


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=16).digest()
