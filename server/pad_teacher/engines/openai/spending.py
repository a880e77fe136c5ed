"""The tokens that an upstream may count in a UTC day: a guard against a bill that nobody expects."""

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from pad_teacher.errors import CannotServe, Refusal

FILE = "upstream.sqlite3"
DAY_SECONDS = 86_400

_TABLE = "CREATE TABLE IF NOT EXISTS spent (day TEXT PRIMARY KEY, tokens INTEGER NOT NULL) WITHOUT ROWID"
_OF_DAY = "SELECT tokens FROM spent WHERE day = ?"
_ADD = """INSERT INTO spent VALUES (?, ?) ON CONFLICT (day) DO UPDATE SET tokens = tokens + excluded.tokens"""


class Spending:
    """Tokens of each UTC day; thread-safe.

    - A question's tokens are counted before it is sent, so a process that is killed has counted them.
    - Once the reply says how many they were, that number replaces the estimate.
    - With a ``folder`` the day's count outlives the process, and services that share the folder share the limit.

    Args:
        limit: tokens of a day.
        folder: where the count is kept; None keeps it in memory.
        clock: seconds since 1970.

    Raises:
        CannotServe: if the count cannot be kept in ``folder``.
    """

    def __init__(self, limit: int, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        try:
            # One connection for all threads, as each call holds the lock.
            self._database = sqlite3.connect(
                folder / FILE if folder else ":memory:", timeout=10, isolation_level=None, check_same_thread=False
            )
            try:
                self._database.execute(_TABLE)
            except sqlite3.Error:
                self._database.close()
                raise
        except sqlite3.Error as error:
            raise CannotServe(f"cannot keep the upstream's tokens in {folder}: {error}; mend it or move it") from None

    @property
    def today(self) -> int:
        """Tokens counted since midnight UTC."""
        with self._lock:
            return self._of(self._day())

    def reserve(self, tokens: int) -> str:
        """Count ``tokens`` that are about to be asked for; returns the day, for ``settle``.

        Raises:
            Refusal: ``quota_exceeded`` if the day's limit does not allow them; ``engine_failed`` if they cannot be
                counted, for example because the disk is full.
        """
        with self._lock:
            day = self._day()
            self._change("BEGIN IMMEDIATE")
            try:
                spent = self._of(day)
                if spent + tokens > self.limit:
                    raise self._refusal(spent)
                self._change(_ADD, day, tokens)
            finally:
                self._change("COMMIT")
            return day

    def settle(self, day: str, reserved: int, counted: int) -> None:
        """Replace the ``reserved`` tokens of a question by those that the upstream ``counted``."""
        with self._lock:
            self._change(_ADD, day, counted - reserved)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _day(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).date().isoformat()

    def _of(self, day: str) -> int:
        row = self._database.execute(_OF_DAY, (day,)).fetchone()
        return row[0] if row else 0

    def _change(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            # What cannot be counted is not asked for.
            raise Refusal("engine_failed", f"the upstream's tokens cannot be counted: {error}") from None

    def _refusal(self, spent: int) -> Refusal:
        midnight = max(1, ceil(DAY_SECONDS - self._clock() % DAY_SECONDS))
        message = (
            f"the upstream has counted {spent} tokens today, and --upstream-tokens-per-day is {self.limit}: the next"
            " day begins at midnight UTC"
        )
        return Refusal("quota_exceeded", message, retry_after_s=midnight)
