"""JSON lines that survive a kill: only whole lines, one writer, and a rerun knows the ids that the file holds."""

import os
import time
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from pad_student.errors import JsonLinesError
from pad_student.storage.locks import claim
from pad_wire.text import WireModel
from pad_wire.validation import InvalidBody, parse

Model = TypeVar("Model", bound=WireModel)
JsonObject = BaseModel | dict[str, Any]

SYNC_SECONDS = 1.0  # a power cut loses at most this much; a kill loses nothing that was written


def read(path: Path, model: type[Model], *, whole: bool = False) -> Iterator[Model]:
    """Yield each line of ``path`` as ``model``; empty lines are skipped, and with ``whole`` a torn last one too.

    Raises:
        JsonLinesError: naming the file and the line of another shape.
        OSError: the file cannot be read.
    """
    for number, line in _lines(path, _whole_bytes(path) if whole else None):
        yield parsed(path, f"line {number}", line.removeprefix(BOM_UTF8) if number == 1 else line, model)


def parsed(path: Path, place: str, line: bytes, model: type[Model]) -> Model:
    """One line of a file as ``model``; ``place`` names the line in messages.

    Raises:
        JsonLinesError: naming the file and the place of a line of another shape.
    """
    try:
        return parse(model, line)
    except InvalidBody as error:
        where = f"{error.detail.where}: " if error.detail.where else ""
        raise JsonLinesError(f"{path}, {place}: {where}{error.detail.message}") from None


def first(path: Path, model: type[Model]) -> Model | None:
    """The first line; None if there is none, or only a torn one.

    Raises:
        JsonLinesError: the line has another shape.
        OSError: the file cannot be read.
    """
    return next(read(path, model, whole=True), None)


class Appender:
    """Appends objects to a file, one a line; fields that are None are left out.

    - The file holds whole lines only: opening cuts a torn last line off, and a failed ``append`` leaves no part.
    - Nothing is cut before every whole line and the torn one are known to be of this kind.
    - One process writes: another one's opening fails.
    - ``held`` has the ids of all lines, earlier and appended ones; ``key`` names the field with the id.
    - Lines reach the disk within ``SYNC_SECONDS`` of further appends, and on ``close``.

    Args:
        path: a regular file, or none yet.
        key: name of the field with the id, which is a line's first.
        held: ids of all lines, if the caller knows them; the file is then not read.

    Raises:
        JsonLinesError: on opening, for what is no file, and for a line that is not an object with an id; on
            appending, if the disk is full or gone.
        InUse: on opening, if another process writes the file.
    """

    def __init__(self, path: Path, key: str = "id", held: Iterable[Any] | None = None) -> None:
        self._path = path
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        check_regular(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._synced_at = time.monotonic()
        try:
            claim(self._file, path)
            whole = _end_of_whole_lines(self._file)
            read = (_id(path, number, line, key) for number, line in _lines(path, whole))
            self.held = set(read if held is None else held)
            self._size = self._mend(whole)
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

    def _mend(self, whole: int) -> int:
        """Cut a torn last line off, or end a whole one that lacks its newline; return the size in bytes."""
        size = os.fstat(self._file).st_size
        begin = b'{"%s":' % self._key.encode()
        tail = os.pread(self._file, size - whole, whole)
        if not tail:
            return size
        if not begin.startswith(tail[: len(begin)]) and not tail.replace(b'": ', b'":', 1).startswith(begin):
            raise JsonLinesError(
                f"{self._path}: its last line has no end and no {self._key!r}; move the file away, or give another"
            )
        try:
            self.held.add(orjson.loads(tail)[self._key])
        except orjson.JSONDecodeError:
            os.ftruncate(self._file, whole)
            return whole
        os.pwrite(self._file, b"\n", size)
        return size + 1

    def _write(self, data: bytes) -> None:
        written = 0
        while written < len(data):  # a disk that fills up first takes a part, and fails at the next call
            written += os.pwrite(self._file, data[written:], self._size + written)
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            os.fsync(self._file)
            self._synced_at = time.monotonic()
        self._size += len(data)


def check_regular(path: Path) -> None:
    """Refuse an output that is a directory, a device or a pipe.

    Raises:
        JsonLinesError: naming it.
    """
    if path.exists() and not path.is_file():
        raise JsonLinesError(f"{path} is no regular file, so nothing is written to it; give another output")


def _lines(path: Path, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers; those before ``end``, if it is given."""
    with path.open("rb") as file:
        read = 0
        for number, line in enumerate(file, start=1):
            read += len(line)
            if end is not None and read > end:
                return
            if line.strip():
                yield number, line


def _whole_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return _end_of_whole_lines(file.fileno())


def _end_of_whole_lines(file: int) -> int:
    """The place after the last newline, in bytes."""
    end = os.fstat(file).st_size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _id(path: Path, number: int, line: bytes, key: str) -> Any:
    try:
        return orjson.loads(line)[key]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise JsonLinesError(f"{path}, line {number}: not a JSON object with {key!r}; move the file away") from None
