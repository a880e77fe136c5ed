"""File types and sources of rows: a file, a folder or the Hub. A row's columns are read by ``rows.py``."""

import gzip
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from pad_student.errors import PromptsError, StudentError

PlacedRow = tuple[str, Any]
SPLIT = "train"
KINDS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".arrow": "arrow"}
KINDS_IN_DIRECTORIES = KINDS | {".json": "json", ".jsonl": "json"}
INFORMATION = ("dataset_info.json", "dataset_infos.json")  # a clone from the Hub may have them; they hold no rows
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
FILE_SUFFIXES = (*KINDS, ".json", ".jsonl", ".gz", ".txt", ".yaml")


def placed_rows(source: Path, subset: str | None = None, split: str | None = None) -> Iterator[PlacedRow]:
    """Yield each row of ``source`` after its place: ``line 1`` in JSON lines, else ``row 0``, as in ``dataset[0]``.

    Args:
        source: a file, a directory (of data files, or from ``Dataset.save_to_disk``), or the name of a dataset on
            the Hub.
        subset: configuration of a dataset on the Hub.
        split: of a dataset with several; by default its only one, or ``train``.

    Raises:
        PromptsError: for a source that cannot be read.
        OSError: for a file that cannot be opened.
    """
    if source.is_file():
        if subset or split:
            raise PromptsError(f"{source}: one file has neither subsets nor splits; leave out --subset and --split")
        kind = KINDS.get(source.suffix)
        return _file_rows(source, kind) if kind else _json_rows(source)
    if source.is_dir():
        return _directory_rows(source, subset, split)
    if not is_hub_name(source):
        raise PromptsError(f"{source}: no such file or directory")
    return _hub_rows(str(source), subset, split)


def is_hub_name(source: Path) -> bool:
    """Whether a source that is not here may be a dataset on the Hub."""
    return bool(HUB_NAME.fullmatch(str(source))) and source.suffix not in FILE_SUFFIXES


def _json_rows(path: Path) -> Iterator[PlacedRow]:
    """Rows of a JSON file. Arrow would refuse rows of different shapes, such as text next to a conversation."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if file.read(len(BOM_UTF8)) != BOM_UTF8:  # editors on Windows begin files with it
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


def _file_rows(path: Path, kind: str) -> Iterator[PlacedRow]:
    """Rows of one file, streamed, so that the library keeps no copy in its cache."""
    files = {"data_files": str(path)} | ({"sep": "\t"} if path.suffix == ".tsv" else {})
    return _with_places(f"{path} is no {kind} file", lambda: _local(kind, None, SPLIT, streaming=True, **files))


def _directory_rows(path: Path, subset: str | None, split: str | None) -> Iterator[PlacedRow]:
    """Rows of a directory from ``save_to_disk``, or of data files of one kind."""
    return _with_places(f"{path} cannot be read", lambda: _directory(path, subset, split))


def _hub_rows(name: str, subset: str | None, split: str | None) -> Iterator[PlacedRow]:
    """Rows of a dataset on the Hub."""
    complaint = f"{name}: no such file or directory, nor a dataset that could be loaded from the Hub"
    return _with_places(complaint, lambda: _load(name, subset, split))


def _directory(path: Path, subset: str | None, split: str | None) -> Iterable[Any]:
    saved = (path / "state.json").exists()
    if not saved and not (path / "dataset_dict.json").exists():
        _refuse_several_kinds(path)
        return _local(str(path), subset, split)
    if subset or (saved and split):
        raise PromptsError(f"{path} holds one dataset: leave out --subset" + " and --split" * saved)
    from datasets import load_from_disk

    dataset: Any = load_from_disk(str(path))
    return dataset if saved else _of_splits(str(path), dataset, split)


def _of_splits(name: str, dataset: Any, split: str | None = None) -> Any:
    chosen = split or (next(iter(dataset)) if len(dataset) == 1 else SPLIT)
    if chosen not in dataset:
        raise PromptsError(f"{name} has the splits {', '.join(dataset)}: choose one with --split")
    return dataset[chosen]


def _refuse_several_kinds(path: Path) -> None:
    """Refuse a directory of several kinds of files: the library would silently read only the most frequent."""
    from huggingface_hub import metadata_load

    readme = path / "README.md"
    if readme.exists() and (metadata_load(readme) or {}).get("configs"):
        return  # the README lists the files of each subset
    found: dict[str, str] = {}
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(path).parts)
        if hidden or file.name in INFORMATION or not file.is_file():
            continue
        for suffix in file.suffixes:  # all of them: .jsonl.gz
            if suffix in KINDS_IN_DIRECTORIES:
                found.setdefault(KINDS_IN_DIRECTORIES[suffix], file.name)
    if len(found) > 1:
        raise PromptsError(
            f"{path} holds data of several kinds ({', '.join(found.values())}), of which one would be read: "
            "give one file, or a directory for each kind"
        )


def _local(name: str, subset: str | None, split: str | None, **options: Any) -> Iterable[Any]:
    text = _as_text(name, subset, **{each: options[each] for each in ("data_files", "sep") if each in options})
    rows = _load(name, subset, split, **options, **text)
    return ({column: value or None for column, value in row.items()} for row in rows) if text else rows


def _load(name: str, subset: str | None, split: str | None, **options: Any) -> Any:
    from datasets import load_dataset  # takes a second, and JSON lines do not need it

    loaded = load_dataset(name, subset, split=split, **options)  # without a split: all of them
    return loaded if split else _of_splits(name, loaded)


def _as_text(name: str, subset: str | None, **options: Any) -> dict[str, Any]:
    """Options that keep CSV cells as text: by default the library reads 001 as a number and NA as missing."""
    import pandas
    from datasets import Features, Value, load_dataset_builder

    config: Any = load_dataset_builder(name, subset, **options).config
    if not hasattr(config, "pd_read_csv_kwargs"):
        return {}
    first_row = {**config.pd_read_csv_kwargs, "chunksize": None, "nrows": 1}
    files = [file for of_split in config.data_files.values() for file in of_split]
    heads = [pandas.read_csv(file, **first_row) for file in files]
    for file, head in zip(files, heads, strict=True):
        if len(head) and not isinstance(
            head.index, pandas.RangeIndex
        ):  # or its first column would be taken for names of rows
            raise PromptsError(f"{file}: its rows have more fields than its header")
        if set(head.columns) != set(heads[0].columns):
            raise PromptsError(f"{file} has other columns than {Path(files[0]).name}: give one of them")
    return {"features": Features({each: Value("string") for each in heads[0].columns}), "na_filter": False}


def _with_places(complaint: str, load: Callable[[], Iterable[Any]]) -> Iterator[PlacedRow]:
    """Rows with their places; every failure of ``datasets``, also during reading, becomes a PromptsError."""
    try:
        yield from ((f"row {number}", row) for number, row in enumerate(load()))
    except StudentError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PromptsError(f"{complaint}: {reason}") from error


# pyright: standard
