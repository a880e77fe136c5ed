"""The job under which the teacher counts a command's work."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pad_student.commands.common import job_of


@pytest.mark.parametrize(
    ("places", "job"),
    [
        ({"output_dir": Path("runs/tiny world")}, "tiny-world"),
        ({"output_dir": Path("runs/v1.5/")}, "v1.5"),
        ({"out": Path("a/scored.jsonl")}, "scored"),
        ({"out": Path("ä" * 300)}, "-"),
        ({"out": Path("x" * 300)}, "x" * 128),
        ({}, None),
    ],
)
def test_a_job_is_called_after_its_output(places: dict[str, Any], job: str | None) -> None:
    access: Any = SimpleNamespace(**places)
    assert job_of(access) == job


def test_a_run_in_the_folder_itself_has_that_folders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run-7").mkdir()
    monkeypatch.chdir(tmp_path / "run-7")
    access: Any = SimpleNamespace(output_dir=Path())
    assert job_of(access) == "run-7"
