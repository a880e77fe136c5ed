"""Where rows come from: JSON lines, JSON, parquet, CSV or Arrow files, directories, and datasets of the Hub."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from pad_student.errors import StudentError

PLACED_ROW = tuple[str, Any]
BY_LIBRARY = {".parquet": "parquet", ".csv": "csv", ".arrow": "arrow"}
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
FILE_SUFFIXES = (*BY_LIBRARY, ".json", ".jsonl", ".gz", ".txt", ".yaml")
SPLIT = "train"


class PromptsError(StudentError):
    """Data that cannot be read, or that does not hold what was expected; names the data, the row and the remedy."""


def placed_rows(source: Path, subset: str | None = None, split: str | None = None) -> Iterator[PLACED_ROW]:
    """Yield each row of ``source`` behind its place: ``line 1`` of JSON lines, else ``row 0``, as ``dataset[0]``.

    Args:
        source: a file, a directory (of data files, or as ``Dataset.save_to_disk`` writes it), or what does not exist
            here and is then the name of a dataset of the Hub.
        subset: configuration of a dataset of the Hub.
        split: of a dataset that has several; by default its only one, or ``train``.

    Raises:
        PromptsError: for what cannot be read.
        OSError: for a file that cannot be opened.
    """
    if source.is_file():
        if subset or split:
            raise PromptsError(f"{source}: one file has neither subsets nor splits; leave out --subset and --split")
        return _file_rows(source)
    if source.is_dir():
        return _library_rows(f"{source} cannot be read", lambda: _directory(source, subset, split))
    if not HUB_NAME.fullmatch(str(source)) or source.suffix in FILE_SUFFIXES:
        raise PromptsError(f"{source}: no such file or directory")
    complaint = f"{source}: no such file or directory, nor a dataset that could be loaded from the Hub"
    return _library_rows(complaint, lambda: _load(str(source), subset, split or SPLIT))


def _file_rows(path: Path) -> Iterator[PLACED_ROW]:
    kind = BY_LIBRARY.get(path.suffix)
    if kind:  # streamed: the library would otherwise keep a copy in its cache
        return _library_rows(
            f"{path} is no {kind} file", lambda: _load(kind, None, SPLIT, data_files=str(path), streaming=True)
        )
    return _json_rows(path)


def _json_rows(path: Path) -> Iterator[PLACED_ROW]:
    """By hand: a row may have another shape than its neighbour, text beside a conversation, which Arrow refuses."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if _begins_a_list(file):
                yield from ((f"row {number}", row) for number, row in enumerate(_parsed(path, "", file.read())))
            else:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"line {number}", _parsed(path, f", line {number}", line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PromptsError(f"{path} is no whole gzip file: {error}") from None


def _begins_a_list(file: IO[bytes] | gzip.GzipFile) -> bool:
    first = next(chain(filter(None, map(bytes.strip, file)), [b""]))
    file.seek(0)
    return first.startswith(b"[")


def _parsed(path: Path, where: str, content: bytes) -> Any:
    try:
        return from_json(content)
    except ValueError:
        raise PromptsError(f"{path}{where}: not JSON") from None


def _directory(path: Path, subset: str | None, split: str | None) -> Iterable[Any]:
    saved = (path / "state.json").exists()
    if not saved and not (path / "dataset_dict.json").exists():
        return _load(str(path), subset, split or SPLIT)
    if subset or (saved and split):
        raise PromptsError(f"{path} holds one dataset: leave out --subset" + " and --split" * saved)
    from datasets import load_from_disk

    dataset: Any = load_from_disk(str(path))
    if saved:
        return dataset
    only = next(iter(dataset)) if len(dataset) == 1 else SPLIT
    if (split or only) not in dataset:
        raise PromptsError(f"{path} has the splits {', '.join(dataset)}: choose one with --split")
    return dataset[split or only]


def _load(name: str, subset: str | None, split: str, **options: Any) -> Any:
    from datasets import load_dataset  # takes a second, which JSON lines need not wait for

    return load_dataset(name, subset, split=split, **options)


def _library_rows(complaint: str, load: Callable[[], Iterable[Any]]) -> Iterator[PLACED_ROW]:
    """Rows as ``datasets`` gives them; it fails in many ways, some only while it is read."""
    try:
        yield from ((f"row {number}", row) for number, row in enumerate(load()))
    except StudentError:
        raise
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PromptsError(f"{complaint}: {said}") from error
