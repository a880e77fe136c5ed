"""API keys: made once, shown once, kept as hashes, compared in constant time."""

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from pad_wire.text import WireModel

log = structlog.get_logger()

_RELOAD_SECONDS = 1.0


class KeyRecord(WireModel):
    """One line of the key file."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: int


class KeyFileError(ValueError):
    """The key file cannot be read or is not one."""


def add_key(path: Path, name: str) -> str:
    """Append a new key called ``name`` to the file and return it; it cannot be shown again.

    Raises:
        KeyFileError: where the name is taken or is not letters, digits, dots, dashes and underscores.
    """
    if path.exists() and name in {record.name for record in read_keys(path)}:
        raise KeyFileError(f"{path} already has a key called {name}")
    key = f"pad_{secrets.token_urlsafe(32)}"
    try:
        record = KeyRecord(name=name, sha256=_digest(key), created=int(time.time()))
    except ValidationError:
        raise KeyFileError("a key's name is 1 to 64 letters, digits, dots, dashes or underscores") from None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        # On a line of its own, even behind a last line that someone left without its end.
        file.write(f"\n{record.model_dump_json()}\n" if path.stat().st_size else f"{record.model_dump_json()}\n")
    return key


def read_keys(path: Path) -> list[KeyRecord]:
    """All keys of the file.

    Raises:
        KeyFileError: naming the file, and the line where one is not a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
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
    """The keys of a file, read again when it changes, so that a new key works without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = read_keys(path)
        self._read_at = time.monotonic()
        self._changed: int | None = None

    def name_of(self, key: str) -> str | None:
        """The name of ``key``, or None; takes the same time whichever key it is."""
        self._reload()
        digest = _digest(key)
        found = None
        for record in self._records:
            if hmac.compare_digest(record.sha256, digest):
                found = record.name
        return found

    def _reload(self) -> None:
        if time.monotonic() - self._read_at < _RELOAD_SECONDS:
            return
        self._read_at = time.monotonic()
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._records, self._changed = read_keys(self._path), changed
        except FileNotFoundError:
            self._records, self._changed = [], None
        except (OSError, KeyFileError) as error:
            log.error("keys not read again: the ones before still hold", reason=str(error))


def _digest(key: str) -> str:
    # The keys are 256 random bits, so a plain hash cannot be guessed back.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
