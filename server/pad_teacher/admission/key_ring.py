"""The keys of a running service: compared in constant time, and read again when their file changes."""

import hmac
import time
from pathlib import Path

import structlog

from pad_teacher.admission.keys import KeyFileError, KeyRecord, hash_of, parse_keys, read_keys

log = structlog.get_logger()

RELOAD_SECONDS = 1.0  # at least, between two looks at whether the file has changed


class KeyRing:
    """The keys of a file. Belongs to the event loop.

    - The file is read again after it has changed, so keys come, change and go without a restart.
    - If a line of it is not a key, those of the keys read before are valid whose hash still stands in the file: a
      key that was taken out is refused, however the rest of the file looks.
    - If it cannot be read at all, the keys read before are valid; if it is gone, none is.
    - ``problem`` says what is wrong with the file now; it is logged once.
    """

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        self._path = path
        self._records = read_keys(path)
        self._wrong: str | None = None
        self._read_at = time.monotonic()
        self._version: tuple[int, int] | None = None

    def find(self, key: str) -> KeyRecord | None:
        """The record of ``key``, or None if it is not known; the time that it takes does not depend on the key."""
        self._reload()
        digest = hash_of(key)
        found = None
        for record in self._records:
            if hmac.compare_digest(record.sha256, digest):
                found = record
        return found

    def _reload(self) -> None:
        if time.monotonic() - self._read_at < RELOAD_SECONDS:
            return
        self._read_at = time.monotonic()
        problem = self._look()
        if problem and problem != self.problem:
            log.error("the key file is not as it should be", reason=problem)
        self.problem = problem

    def _look(self) -> str | None:
        """Read the file if it has changed; what is wrong with it."""
        try:
            status = self._path.stat()
            version = status.st_mtime_ns, status.st_ino
            if version != self._version:
                self._read()
                self._version = version
        except FileNotFoundError:
            self._records, self._version = [], None
            return f"{self._path} is gone: no key is valid"
        except OSError as error:
            self._version = None
            return f"cannot read the key file {self._path}: {error.strerror}; the keys read before stay valid"
        if status.st_nlink == 0:
            # A container that mounts the single file goes on seeing the old one after a change replaced it.
            return f"{self._path} was replaced, but this process sees the old one: mount its folder, not the file"
        return self._wrong

    def _read(self) -> None:
        content = self._path.read_bytes()
        try:
            self._records, self._wrong = parse_keys(self._path, content), None
        except KeyFileError as error:
            self._records = [record for record in self._records if record.sha256.encode() in content]
            self._wrong = f"{error}; of the keys read before, those whose lines still stand are valid"
