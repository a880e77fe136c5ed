"""API keys and their limits: made once, shown once, kept as hashes, compared in constant time."""

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from pad_teacher.errors import TeacherError
from pad_wire.atomic import write_atomically
from pad_wire.text import WireModel

log = structlog.get_logger()

RELOAD_SECONDS = 1.0  # at least, between two looks at whether the file has changed


class KeyLimits(WireModel):
    """The limits of a key; by default an equal share of the teacher, and no others."""

    weight: float = Field(default=1.0, ge=0.01, le=100)  # a key of 3 gets three times the tokens of a key of 1
    tokens_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)


class KeyRecord(KeyLimits):
    """One line of the key file."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: int


class KeyFileError(TeacherError):
    """The key file cannot be read or changed, or is not one."""


NO_LIMITS = KeyLimits()
_MISTAKES = {
    "name": "a key's name is 1 to 64 letters, digits, dots, dashes or underscores",
    "weight": "a key's weight is a number from 0.01 to 100",
}


def add_key(path: Path, name: str, **limits: float | int | None) -> str:
    """Add a new key called ``name`` to the file and return it; it cannot be shown again.

    Raises:
        KeyFileError: if the name is taken or not allowed, one of ``limits`` (of ``KeyLimits``) is out of range,
            or the file cannot be changed.
    """
    key = f"pad_{secrets.token_urlsafe(32)}"
    try:
        record = KeyRecord.model_validate(
            {"name": name, "sha256": _digest(key), "created": int(time.time()), **limits}
        )
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise KeyFileError(_MISTAKES.get(field, "a key's limits are whole numbers of tokens from 1")) from None
    with _locked(path):
        records = read_keys(path) if path.exists() else []
        if name in {each.name for each in records}:
            raise KeyFileError(f"{path} already has a key called {name}")
        _replace(path, [*records, record])
    return key


def revoke_key(path: Path, name: str) -> None:
    """Delete the key called ``name`` from the file; services that read the file refuse it within two seconds.

    Raises:
        KeyFileError: if there is no such key, or the file cannot be changed.
    """
    with _locked(path):
        records = read_keys(path)
        kept = [record for record in records if record.name != name]
        if len(kept) == len(records):
            raise KeyFileError(f"{path} has no key called {name}: see pad-teacher key list")
        _replace(path, kept)


def read_keys(path: Path) -> list[KeyRecord]:
    """All keys of the file.

    Raises:
        KeyFileError: if the file cannot be read, or a line is not a key.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot read the key file {path}: {error}") from error
    records: list[KeyRecord] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(TypeAdapter(KeyRecord).validate_json(line))
        except ValidationError:
            raise KeyFileError(f"{path}, line {number}, is not a key") from None
    return records


class KeyRing:
    """The keys of a file. Belongs to the event loop.

    - The file is read again after it has changed, so keys come, change and go without a restart.
    - If it cannot be read again, the keys read last are still valid; if it is gone, no key is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = read_keys(path)
        self._read_at = time.monotonic()
        self._changed: tuple[int, int] | None = None

    def find(self, key: str) -> KeyRecord | None:
        """The record of ``key``, or None if it is not known; the time that it takes does not depend on the key."""
        self._reload()
        digest = _digest(key)
        found = None
        for record in self._records:
            if hmac.compare_digest(record.sha256, digest):
                found = record
        return found

    def _reload(self) -> None:
        if time.monotonic() - self._read_at < RELOAD_SECONDS:
            return
        self._read_at = time.monotonic()
        try:
            status = self._path.stat()
            changed = status.st_mtime_ns, status.st_ino
            if changed != self._changed:
                self._records, self._changed = read_keys(self._path), changed
        except FileNotFoundError:
            self._records, self._changed = [], None
        except (OSError, KeyFileError) as error:
            log.error("the key file could not be read again: the keys read before stay valid", reason=str(error))


def _digest(key: str) -> str:
    # A key is 256 random bits, so a plain hash of it cannot be reversed by guessing.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file. The lock is on its folder, as the file itself is replaced."""
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(f"cannot change the key file {path}: {error.strerror or error}") from error


def _replace(path: Path, records: Sequence[KeyRecord]) -> None:
    """Write the file anew. It keeps its owner and mode, as the service that reads it may run as another user."""
    lines = (f"{record.model_dump_json(exclude_defaults=True)}\n" for record in records)
    write_atomically(path, "".join(lines).encode(), mode=0o600, keep_owner=True)
