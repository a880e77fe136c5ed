"""JSON lines that survive being killed: whole lines only, and a rerun knows which ids they already hold."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from pad_student.errors import JsonLinesError
from pad_wire.text import WireModel
from pad_wire.validation import InvalidBody, parse

Model = TypeVar("Model", bound=WireModel)
JsonObject = BaseModel | dict[str, Any]

SYNC_SECONDS = 1.0  # a kill loses nothing that was written; only a power cut can lose as much as this


def read(path: Path, model: type[Model]) -> Iterator[Model]:
    """Yield each line of ``path`` as ``model``; empty lines are skipped.

    Raises:
        JsonLinesError: naming the file and the line that is not of the model's shape.
        OSError: where the file cannot be read.

    """
    for number, line in _lines(path):
        try:
            yield parse(model, line)
        except InvalidBody as error:
            where = f"{error.detail.where}: " if error.detail.where else ""
            raise JsonLinesError(f"{path}, line {number}: {where}{error.detail.message}") from None


def first(path: Path, model: type[Model]) -> Model | None:
    """The first line; None where there is none yet, or it was torn.

    Raises:
        JsonLinesError: where it is not of the model's shape.
        OSError: where the file cannot be read.

    """
    with path.open("rb") as file:
        whole = file.readline().endswith(b"\n")
    return next(read(path, model), None) if whole else None


class Appender:
    """Appends whole lines to a file and knows the ids it holds; a torn last line is cut off first.

    ``held`` are the ids of all lines, those that were there and those appended; ``key`` is the field that has the
    id. Fields that are None are left out.

    Raises:
        JsonLinesError: on opening, for a line that is not an object with an id; on appending, where the disk is full
            or gone, in which case the file still holds whole lines only.

    """

    def __init__(self, path: Path, key: str = "id") -> None:
        self._path = path
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._synced_at = time.monotonic()
        try:
            self._size = _cut_torn_line(self._file)
            self.held = {_id(path, number, line, key) for number, line in _lines(path)}
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Appender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, *rows: JsonObject) -> None:
        """Write each row as one line; all of them reach the file, or none does."""
        plain = [row.model_dump(exclude_none=True) if isinstance(row, BaseModel) else row for row in rows]
        try:
            self._write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in plain))
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise JsonLinesError(
                f"cannot write {self._path}: {error.strerror}; what it holds is whole, and a rerun continues there"
            ) from error
        self.held.update(row[self._key] for row in plain)

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._file)
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        written = 0
        while written < len(data):  # a disk that fills up takes a part first, and fails only at the next call
            written += os.pwrite(self._file, data[written:], self._size + written)
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            os.fsync(self._file)
            self._synced_at = time.monotonic()
        self._size += len(data)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _cut_torn_line(file: int) -> int:
    """Cut what follows the last newline; return the size that is left, in bytes."""
    size = os.fstat(file).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def _id(path: Path, number: int, line: bytes, key: str) -> Any:
    try:
        return orjson.loads(line)[key]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise JsonLinesError(f"{path}, line {number}: not a JSON object with {key!r}; move the file away") from None
