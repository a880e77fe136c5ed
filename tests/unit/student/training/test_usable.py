"""Rows that can be trained on: chosen in one pass, in the order of parts, and left in their file."""

from pathlib import Path

import pytest

from pad_student.errors import DatasetError
from pad_student.storage.stored_lines import StoredLines
from pad_student.training.batches import as_rows
from pad_student.training.usable import usable_rows
from pad_wire import ScoredSet
from support.student_runs import config, scored_sets
from support.tiny_student import tiny_encoder, tiny_model


def stored(path: Path, sets: list[ScoredSet]) -> StoredLines[ScoredSet]:
    path.write_text("".join(each.model_dump_json(exclude_none=True) + "\n" for each in sets))
    return StoredLines(path, ScoredSet)


def changed(each: ScoredSet, place: int, **fields: object) -> ScoredSet:
    responses = [
        response.model_copy(update=fields) if number == place else response
        for number, response in enumerate(each.responses)
    ]
    return each.model_copy(update={"responses": responses})


def test_rows_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    sets = scored_sets()
    sets[3] = changed(sets[3], 1, truncated=True)
    sets[5] = changed(sets[5], 2, text="long " * 40)
    how = config(tmp_path, n=4, parts=2)
    rows = as_rows(stored(tmp_path / "scored.jsonl", sets))
    assert isinstance(rows, StoredLines)
    on_disk, in_memory = (
        usable_rows(each, tiny_model(), tiny_encoder(), how, scores_more=False) for each in (rows, sets)
    )
    names = [each.id for each in on_disk]  # type: ignore[union-attr]
    first = [f"s{k}/0" for k in range(12) if k != 5]
    assert names == first + [f"s{k}/1" for k in range(12) if k != 3]
    assert list(on_disk) == list(in_memory) == on_disk[:]
    assert [response.text for response in on_disk[0].responses] == ["0a0", "0a2"]  # type: ignore[union-attr]


def test_a_set_with_another_number_of_responses_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'s0' has 4 responses, and n is 6"):
        usable_rows(scored_sets(), tiny_model(), tiny_encoder(), config(tmp_path, n=6), scores_more=False)
