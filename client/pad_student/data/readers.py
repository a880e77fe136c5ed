"""Where rows come from: JSON and JSON lines are read here, whatever else there is by ``tables``."""

import gzip
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from pad_student.data.tables import KINDS, PLACED_ROW, directory_rows, file_rows, hub_rows
from pad_student.errors import PromptsError

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
FILE_SUFFIXES = (*KINDS, ".json", ".jsonl", ".gz", ".txt", ".yaml")


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
        kind = KINDS.get(source.suffix)
        return file_rows(source, kind) if kind else _json_rows(source)
    if source.is_dir():
        return directory_rows(source, subset, split)
    if not HUB_NAME.fullmatch(str(source)) or source.suffix in FILE_SUFFIXES:
        raise PromptsError(f"{source}: no such file or directory")
    return hub_rows(str(source), subset, split)


def _json_rows(path: Path) -> Iterator[PLACED_ROW]:
    """By hand: a row may have another shape than its neighbour, text beside a conversation, which Arrow refuses."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if file.read(len(BOM_UTF8)) != BOM_UTF8:  # Windows' editors put one in front
                file.seek(0)
            if _begins_a_list(file):
                yield from ((f"row {number}", row) for number, row in enumerate(_list_of(path, file.read())))
            else:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"line {number}", _object_of(path, number, line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PromptsError(f"{path} is no whole gzip file: {error}") from None


def _begins_a_list(file: IO[bytes] | gzip.GzipFile) -> bool:
    start = file.tell()
    first = next(chain(filter(None, map(bytes.strip, iter(file.readline, b""))), [b""]))
    file.seek(start)
    return first.startswith(b"[")


def _list_of(path: Path, content: bytes) -> Any:
    try:
        return from_json(content)
    except ValueError as error:
        place = re.search(r" at (line \d+)", str(error))
        where = f", {place[1]}" if place else ""
        expected = "a file that begins with [ has to be one list of rows, and in JSON lines each line is an object"
        raise PromptsError(f"{path}{where}: not JSON: {expected}") from None


def _object_of(path: Path, number: int, line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        raise PromptsError(f"{path}, line {number}: not JSON: expected an object on each line") from None
