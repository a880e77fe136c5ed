"""JSON lines that survive a kill: only whole lines, and a rerun knows the ids that the file already holds."""

import os
import time
from codecs import BOM_UTF8
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

SYNC_SECONDS = 1.0  # a power cut loses at most this much; a kill loses nothing that was written


def read(path: Path, model: type[Model]) -> Iterator[Model]:
    """Yield each line of ``path`` as ``model``; empty lines are skipped.

    Raises:
        JsonLinesError: naming the file and the line of another shape.
        OSError: the file cannot be read.
    """
    for number, line in _lines(path):
        try:
            yield parse(model, line.removeprefix(BOM_UTF8) if number == 1 else line)
        except InvalidBody as error:
            where = f"{error.detail.where}: " if error.detail.where else ""
            raise JsonLinesError(f"{path}, line {number}: {where}{error.detail.message}") from None


def first(path: Path, model: type[Model]) -> Model | None:
    """The first line; None if there is none, or only a torn one.

    Raises:
        JsonLinesError: the line has another shape.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        whole = file.readline().endswith(b"\n")
    return next(read(path, model), None) if whole else None


class Appender:
    """Appends objects to a file, one a line; fields that are None are left out.

    - The file holds whole lines only: opening cuts a torn last line off, and a failed ``append`` leaves no part.
    - ``held`` has the ids of all lines, earlier and appended ones; ``key`` names the field with the id.
    - Lines reach the disk within ``SYNC_SECONDS`` of further appends, and on ``close``.

    Raises:
        JsonLinesError: on opening, for a line that is not an object with an id; on appending, if the disk is full or
            gone.
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
        """Write each row as one line: all rows, or none."""
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
        while written < len(data):  # a disk that fills up first takes a part, and fails at the next call
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
    """Cut everything after the last newline; return the remaining size in bytes."""
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
