"""The usage file: teacher tokens of each key and day, so that a restart gives nobody a second quota."""

import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from pad_teacher.errors import TeacherError

FILE = "usage.sqlite3"

_TABLE = """CREATE TABLE IF NOT EXISTS day_use
    (key TEXT, day TEXT, writer TEXT, tokens INTEGER NOT NULL, PRIMARY KEY (key, day, writer)) WITHOUT ROWID"""
_OWN = """INSERT INTO day_use VALUES (?, ?, ?, ?)
    ON CONFLICT (key, day, writer) DO UPDATE SET tokens = excluded.tokens"""
_OTHERS = "INSERT OR IGNORE INTO day_use VALUES (?, ?, ?, ?)"
# Version 0.1 had one row for all writers of a day.
_IS_OLD = "SELECT 1 FROM sqlite_master WHERE name = 'day_tokens'"
_TAKE_OVER = "INSERT OR IGNORE INTO day_use SELECT key, day, '0.1', tokens FROM day_tokens"


class UsageFileError(TeacherError):
    """The usage file cannot be read or written."""


def read_usage(folder: Path) -> dict[tuple[str, str], int]:
    """Tokens of each (key, UTC day) in the usage file of ``folder``, which is not changed.

    Raises:
        UsageFileError: if there is no such file, or it cannot be read.
    """
    path = folder / FILE
    try:
        if not path.is_file():
            raise UsageFileError(f"no usage is kept in {folder}: name the directory of pad-teacher serve --data")
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT key, day, SUM(tokens) FROM day_use GROUP BY key, day").fetchall()
    except (OSError, sqlite3.Error) as error:
        raise UsageFileError(f"cannot read {path}: {error}") from None
    return {(key, day): tokens for key, day, tokens in rows}


class UsageFile:
    """Teacher tokens of each (key, UTC day, writer), in SQLite. Its methods wait for the disk: call them in a thread.

    - A writer is one process; each writes its own totals of a day, and several may share the folder.
    - Each write makes the file whole again, if it was moved away or emptied: with this process's totals, and with
      what others had used when this process started.
    """

    def __init__(self, folder: Path, since: str) -> None:
        """Open ``usage.sqlite3`` in ``folder``; both are made if they do not exist.

        Args:
            folder: where it is kept.
            since: the first UTC day that matters, as in 2026-01-31.

        Raises:
            UsageFileError: if that is not possible.
        """
        self._path = folder / FILE
        self._writer = uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageFileError(f"cannot keep usage in {folder}: {error.strerror}; choose another --data") from None
        with self._connection() as connection:
            if connection.execute(_IS_OLD).fetchone():
                connection.execute(_TAKE_OVER)
                connection.execute("DROP TABLE day_tokens")
            rows = connection.execute("SELECT * FROM day_use WHERE day >= ?", (since,)).fetchall()
        self._others: list[tuple[str, str, str, int]] = rows
        self._written = self._identity()

    @property
    def used(self) -> dict[tuple[str, str], int]:
        """Tokens of each (key, day) that all writers had used when this process started."""
        used: Counter[tuple[str, str]] = Counter()
        for key, day, _, tokens in self._others:
            used[key, day] += tokens
        return dict(used)

    @property
    def is_another(self) -> bool:
        """Whether the file is not the one that was written last: it was moved, deleted or replaced."""
        return self._identity() != self._written

    def write(self, totals: Mapping[tuple[str, str], int]) -> None:
        """Write this process's tokens of each (key, day), all or none.

        Raises:
            UsageFileError: if the file cannot be written.
        """
        with self._connection() as connection:
            connection.executemany(_OTHERS, self._others)
            connection.executemany(_OWN, [(key, day, self._writer, count) for (key, day), count in totals.items()])
        self._written = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path)) as connection, connection:
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise UsageFileError(f"cannot keep usage in {self._path}: {error}; mend it or move it away") from None
