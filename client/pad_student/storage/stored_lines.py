"""JSON lines as a sequence that stays on the disk: memory holds where each line begins."""

from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

from pad_student.errors import JsonLinesError
from pad_student.storage import jsonl
from pad_wire.text import WireModel

Model = TypeVar("Model", bound=WireModel)


class StoredLines(Sequence[Model], Generic[Model]):
    """The lines of a file, each read when it is taken; empty lines are skipped.

    - Memory holds eight bytes a line.
    - All lines are those of one content: a file that changes under its reader is an error.

    Args:
        path: of the file.
        model: of a line.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, model: type[Model]) -> None:
        self._path = path
        self._model = model
        self._version = self._read_version()
        self._starts = array("q", _starts(path))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> list[Model]: ...
    def __getitem__(self, index: int | slice) -> Model | list[Model]:
        """One line, or several.

        Raises:
            JsonLinesError: naming the file and the line of another shape, or the file that changed.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        start = self._starts[index]
        with self._path.open("rb") as file:
            file.seek(start)
            line = file.readline()
        self._check_version()
        return jsonl.parsed(self._path, f"byte {start}", line if start else line.removeprefix(BOM_UTF8), self._model)

    def __iter__(self) -> Iterator[Model]:
        yield from jsonl.read(self._path, self._model)
        self._check_version()

    def _check_version(self) -> None:
        if self._read_version() != self._version:
            raise JsonLinesError(f"{self._path} was changed while it was in use; start again with a file that stays")

    def _read_version(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_size, found.st_mtime_ns


def _starts(path: Path) -> Iterator[int]:
    """The place of each line that is not empty, in bytes."""
    with path.open("rb") as file:
        start = 0
        for line in file:
            if line.strip():
                yield start
            start += len(line)
