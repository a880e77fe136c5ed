"""The usage file: teacher tokens of each key and day, so that a restart gives nobody a second quota."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from pad_teacher.errors import TeacherError

FILE = "usage.sqlite3"

_TABLE = """CREATE TABLE IF NOT EXISTS day_tokens
    (key TEXT, day TEXT, tokens INTEGER NOT NULL, PRIMARY KEY (key, day)) WITHOUT ROWID"""
# Tokens are added to those in the file: two services may share the folder.
_ADD = """INSERT INTO day_tokens VALUES (?, ?, ?)
    ON CONFLICT (key, day) DO UPDATE SET tokens = tokens + excluded.tokens"""


class UsageFileError(TeacherError):
    """The usage file cannot be read or written."""


class UsageFile:
    """Teacher tokens of each (key, UTC day), in SQLite. Its methods wait for the disk, so they belong in a thread."""

    def __init__(self, folder: Path) -> None:
        """Open ``usage.sqlite3`` in ``folder``; both are made if they do not exist.

        Raises:
            UsageFileError: if that is not possible.
        """
        self._path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageFileError(f"cannot keep usage in {folder}: {error.strerror}; choose another --data") from None
        with self._connection() as connection:
            connection.execute(_TABLE)

    def used(self, day: str) -> dict[tuple[str, str], int]:
        """Tokens of each (key, day) of that day.

        Raises:
            UsageFileError: if the file cannot be read.
        """
        with self._connection() as connection:
            rows = connection.execute("SELECT key, tokens FROM day_tokens WHERE day = ?", (day,)).fetchall()
        return {(key, day): tokens for key, tokens in rows}

    def add(self, tokens: Mapping[tuple[str, str], int]) -> None:
        """Add tokens of each (key, day), all or none.

        Raises:
            UsageFileError: if the file cannot be written.
        """
        with self._connection() as connection:
            connection.executemany(_ADD, [(*which, count) for which, count in tokens.items()])

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise UsageFileError(f"cannot keep usage in {self._path}: {error}; mend it or move it away") from None
