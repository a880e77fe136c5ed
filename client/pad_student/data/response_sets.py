"""Response sets from any file: JSON lines, JSON, parquet, CSV, a directory or the Hub; other columns are kept."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict

from pad_student.data.conversations import RowError
from pad_student.data.readers import placed_rows
from pad_student.data.rows import prompt_of
from pad_student.errors import JsonLinesError, PromptsError
from pad_student.storage.contents import digest_of_set
from pad_wire import SampledSet, ScoredSet
from pad_wire.given import ANSWERS, ONE_ANSWER, NoSet, set_of

# What scoring writes: a column of one of these names is written anew.
WRITTEN = frozenset(ScoredSet.model_fields)
PROMPTS = ("prompt", "chosen", "rejected")
READ = frozenset({*ANSWERS, *ONE_ANSWER, *WRITTEN}).difference(PROMPTS)


class SetRow(NamedTuple):
    """A response set, and the other columns of its row."""

    set: SampledSet
    others: Mapping[str, Any]


class ScoredLine(ScoredSet):
    """A scored set as it is read back: other columns may stand next to it."""

    model_config = ConfigDict(extra="ignore")


def read_sets(source: Path) -> Iterator[SetRow]:
    """Yield each row as a response set; one without an id gets one from its content.

    Raises:
        JsonLinesError: naming the row of another shape.
        OSError: the file cannot be read.
    """
    seen = Counter[str]()
    try:
        for where, row in placed_rows(source):
            try:
                yield _set_row(row, seen)
            except (RowError, NoSet) as error:
                raise JsonLinesError(f"{source}, {where}: {error}") from None
    except PromptsError as error:
        raise JsonLinesError(str(error)) from None


def _set_row(row: Any, seen: Counter[str]) -> SetRow:
    if not isinstance(row, Mapping):
        raise NoSet("expected an object with a prompt and its responses")
    given = {str(name): value for name, value in row.items() if value is not None}
    named = given.get("id", "") != ""
    made = set_of(given, "", _prompt(given)) if named else _with_an_id(given, seen)
    # A pair of texts keeps its columns: they may be compared with later.
    others = {name: value for name, value in given.items() if name not in (WRITTEN | {*ANSWERS})}
    return SetRow(made, others)


def _with_an_id(given: Mapping[str, Any], seen: Counter[str]) -> SampledSet:
    unnamed = set_of(given, "-", _prompt(given))
    digest = digest_of_set(unnamed)[:16]
    seen[digest] += 1
    return unnamed.model_copy(update={"id": digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"})


def _prompt(given: Mapping[str, Any]) -> Any:
    return prompt_of({name: value for name, value in given.items() if name not in READ})


# pyright: standard
