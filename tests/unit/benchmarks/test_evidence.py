"""The evidence page is what the committed runs say, and each run is of the piece that it is named after."""

import json
from pathlib import Path

import pytest
from benchmarks.evidence.method_pieces import METHODS, PAD, PAD_ALIGNED
from benchmarks.evidence.page import (
    BEGIN,
    END,
    METHODS_BEGIN,
    METHODS_END,
    PAGE,
    method_tables,
    results,
    tables,
)
from benchmarks.evidence.pieces import PIECES, Piece
from benchmarks.harness.environment import RESULTS

from pad_student.commands.settings import DistillSettings

FOLDER = RESULTS / "evidence"


def test_the_evidence_page_is_what_the_runs_say() -> None:
    for begin, end, said in ((BEGIN, END, tables()), (METHODS_BEGIN, METHODS_END, method_tables())):
        written = PAGE.read_text().partition(begin)[2].partition(end)[0]
        assert written.strip() == said.strip()


def test_each_run_has_the_settings_of_its_piece() -> None:
    for name, runs in results(FOLDER).items():
        changes = {} if name == "untouched" else PIECES[name].changes
        assert all(run["changes"] == changes for run in runs.values()), name


def test_pieces_change_settings_that_there_are() -> None:
    known = DistillSettings.model_fields.keys() | {"per_device_train_batch_size"}  # of transformers
    for name, piece in PIECES.items():
        assert piece.changes.keys() <= known, name
        assert piece.against in PIECES


def test_each_run_of_a_method_has_its_settings_and_rate() -> None:
    for name, runs in results(FOLDER / "methods").items():
        assert all(run["changes"] == METHODS[name].settings for run in runs.values()), name
        assert {run["learning_rate"] for run in runs.values()} == {runs[0]["learning_rate"]}, name
        assert runs[0]["learning_rate"] in METHODS[name].rates


def test_methods_change_settings_that_there_are() -> None:
    known = DistillSettings.model_fields.keys() | {"per_device_train_batch_size"}  # of transformers
    for name, method in METHODS.items():
        assert all(stage.keys() <= known for stage in method.stages), name
        assert name == PAD or bool(method.stages) != bool(method.algorithm), name


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


def test_methods_are_compared_with_pad_on_the_same_prompts(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    lifted = ((PAD_ALIGNED, 0, 0.1), ("dckd", 0, 0.0), ("dckd", 1, 0.0), ("adpa-plus", 1, 0.2))
    for name, seed, lift in lifted:
        grades = {str(prompt): prompt / 20 + lift for prompt in range(10)}
        run = {"mean": sum(grades.values()) / 10, "grades": grades, "teacher_tokens": 10, "learning_rate": 0.003}
        (tmp_path / "methods" / f"{name}-seed-{seed}.json").write_text(json.dumps(run))
    text = method_tables(tmp_path)
    assert "| DCKD | 0 | 0.003, best of 3 | 0.225 | -0.100 (-0.100 to -0.100) | 10 |" in text
    assert "DCKD, first table: 2;" in text
    assert "ADPA+ from DCKD: +0.200 (+0.200 to +0.200)." in text
