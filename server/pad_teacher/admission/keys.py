"""The key file: keys and their limits, made once, shown once, kept as hashes. Needs none of the server's packages."""

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from pad_teacher.errors import TeacherError
from pad_wire.atomic import write_atomically
from pad_wire.text import WireModel


class KeyLimits(WireModel):
    """The limits of a key; by default an equal share of the teacher, and no others."""

    weight: float = Field(default=1.0, ge=0.01, le=100)  # a key of 3 gets three times the tokens of a key of 1
    tokens_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)

    @property
    def most_tokens(self) -> int | None:
        """The most teacher tokens that these limits ever allow one request; None if there are none."""
        return min((limit for limit in (self.tokens_per_minute, self.tokens_per_day) if limit), default=None)


class KeyRecord(KeyLimits):
    """One line of the key file."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: int
    metrics: bool = False  # whether it may read /metrics, which names all keys and their jobs


class KeyFileError(TeacherError):
    """The key file cannot be read or changed, or is not one."""


NO_LIMITS = KeyLimits()
_MISTAKES = {
    "name": "a key's name is 1 to 64 letters, digits, dots, dashes or underscores",
    "weight": "a key's weight is a number from 0.01 to 100",
}


def add_key(path: Path, name: str, **options: float | int | None) -> str:
    """Add a new key called ``name`` to the file and return it; it cannot be shown again.

    Raises:
        KeyFileError: if the name is taken or not allowed, one of ``options`` (of ``KeyLimits``, or ``metrics``) is
            out of range, or the file cannot be changed.
    """
    key = f"pad_{secrets.token_urlsafe(32)}"
    try:
        record = KeyRecord.model_validate(
            {"name": name, "sha256": hash_of(key), "created": int(time.time()), **options}
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
        return parse_keys(path, path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error}") from error


def parse_keys(path: Path, content: bytes) -> list[KeyRecord]:
    """The keys in the bytes of the file ``path``.

    Raises:
        KeyFileError: if a line is not a key.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error}") from None
    records: list[KeyRecord] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(TypeAdapter(KeyRecord).validate_json(line))
        except ValidationError:
            raise KeyFileError(f"{path}, line {number}, is not a key") from None
    return records


def hash_of(key: str) -> str:
    """The hash under which a key is stored."""
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
