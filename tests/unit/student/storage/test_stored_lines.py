"""Stored lines are those of the file, taken in any order, without the file in memory."""

import json
import tracemalloc
from pathlib import Path

import pytest

from pad_student.errors import JsonLinesError
from pad_student.storage.jsonl import read
from pad_student.storage.stored_lines import StoredLines
from pad_wire import SampledSet


def row(number: int, text: str = "yes") -> str:
    return json.dumps({"id": f"s{number}", "prompt": "why?", "responses": [text, "no"]})


def test_lines_are_taken_in_any_order_and_again(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text("\ufeff" + row(0) + "\n\n" + row(1) + "\n   \n" + row(2))
    stored = StoredLines(path, SampledSet)
    assert len(stored) == 3
    assert [stored[place].id for place in (2, 0, -1, 1, 0)] == ["s2", "s0", "s2", "s1", "s0"]
    assert stored[1:] == list(stored)[1:] == list(read(path, SampledSet))[1:]
    with pytest.raises(IndexError):
        stored[3]


def test_a_file_without_lines_is_empty(tmp_path: Path) -> None:
    (tmp_path / "sets.jsonl").write_text("\n")
    assert not StoredLines(tmp_path / "sets.jsonl", SampledSet)


def test_a_line_of_another_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text(row(0) + "\n" + '{"id": "s1"}\n')
    stored = StoredLines(path, SampledSet)
    with pytest.raises(JsonLinesError, match=r"sets.jsonl, line 2: prompt"):
        list(stored)
    with pytest.raises(JsonLinesError, match=rf"sets.jsonl, byte {len(row(0)) + 1}: prompt"):
        stored[1]


def test_a_file_that_changes_under_its_reader_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text(row(0) + "\n" + row(1) + "\n")
    stored = StoredLines(path, SampledSet)
    path.write_text(row(1) + "\n" + row(0) + "\n" + row(2) + "\n")
    for use in (lambda: stored[0], lambda: list(stored)):
        with pytest.raises(JsonLinesError, match="changed while it was in use"):
            use()


def test_memory_holds_places_and_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text("".join(row(number, "long " * 2000) + "\n" for number in range(300)))
    tracemalloc.start()
    try:
        stored = StoredLines(path, SampledSet)
        assert sum(len(each.responses) for each in stored) == 600
        assert stored[299].id == "s299"
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 10
    finally:
        tracemalloc.stop()
