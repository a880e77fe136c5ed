"""The evidence page is what the committed runs say, and each run is of the piece that it is named after."""

import json
from pathlib import Path

import pytest
from benchmarks.evidence.page import BEGIN, END, PAGE, results, tables
from benchmarks.evidence.pieces import PIECES, Piece
from benchmarks.harness.environment import RESULTS

from pad_student.commands.settings import DistillSettings

FOLDER = RESULTS / "evidence"


def test_the_evidence_page_is_what_the_runs_say() -> None:
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert written.strip() == tables().strip()


def test_each_run_has_the_settings_of_its_piece() -> None:
    for name, runs in results(FOLDER).items():
        changes = {} if name == "untouched" else PIECES[name].changes
        assert all(run["changes"] == changes for run in runs.values()), name


def test_pieces_change_settings_that_there_are() -> None:
    known = DistillSettings.model_fields.keys()
    for name, piece in PIECES.items():
        assert piece.changes.keys() <= known, name
        assert piece.against in PIECES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seeds of a setting that raises each grade by 0.1, and one of the setting that it is compared with."""
    for name, seed, lift in (("one", 0, 0.0), ("two", 0, 0.1), ("two", 1, 0.1)):
        grades = {str(prompt): prompt / 20 + lift for prompt in range(10)}
        run = {"mean": sum(grades.values()) / 10, "grades": grades, "teacher_tokens": 1000}
        (tmp_path / f"{name}-seed-{seed}.json").write_text(json.dumps(run))
    return tmp_path


def test_rows_compare_the_seeds_that_both_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = {"one": Piece("first", "q"), "two": Piece("second", "q", against="one"), "three": Piece("third", "q")}
    monkeypatch.setattr("benchmarks.evidence.page.PIECES", pieces | {"default": Piece("d", "q")})
    text = tables(folder)
    assert "| second | 1 | 0.325 | +0.100 from one (+0.100 to +0.100) | 0.000 | 1,000 |" in text
    assert "| first | 1 | 0.225 | not compared yet | | 1,000 |" in text
    assert "Not run yet: third; d." in text
