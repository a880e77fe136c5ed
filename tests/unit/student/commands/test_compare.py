"""eval compare: what it reads, prints, writes and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import cli

SETTINGS = {"grader": "rules.py:grade", "n": 1, "temperature": 0.8, "max_new_tokens": 24}
GUARDS = {"finished": 0.75, "mean_characters": 40.0, "distinct_2": 0.5, "repeated_4": 0.125}


@pytest.fixture
def graded(tmp_path: Path) -> Any:
    """A directory as eval grade writes it."""

    def write(name: str, grades: list[float], **settings: Any) -> str:
        directory = tmp_path / name
        directory.mkdir()
        rows = [{"id": str(k), "grades": [grade], "mean": grade} for k, grade in enumerate(grades)]
        (directory / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (directory / "settings.json").write_text(json.dumps(SETTINGS | settings))
        (directory / "result.json").write_text(json.dumps(GUARDS))
        return str(directory)

    return write


def test_the_gain_its_interval_test_and_guards_are_printed(
    graded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = graded("a", [0.0, 0.0, 1.0, 0.0]), graded("b", [1.0, 0.0, 1.0, 1.0])
    assert cli.main(["eval", "compare", a, b, "--out", str(tmp_path / "result.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("A 0.2500, B 0.7500, gain +0.5000 (95 % interval +0.0000 to +1.0000) over 4 prompts")
    assert out[2] == "only A passes 0, only B passes 2: McNemar's exact p 0.5"
    assert "repeated 4: A 0.125, B 0.125" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["gain"], result["mcnemar"]["only_b"], result["guards"]["a"]) == (0.5, 2, GUARDS)


def test_seeds_are_given_with_commas_between(graded: Any, capsys: pytest.CaptureFixture[str]) -> None:
    a = ",".join(graded(f"a{k}", [0.0, 0.5]) for k in range(2))
    b = ",".join(graded(f"b{k}", [0.5, 1.0]) for k in range(2))
    assert cli.main(["eval", "compare", a, b]) == 0
    assert "gain +0.5000 (95 % interval +0.5000 to +0.5000) over 2 prompts and 2 seeds" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("grader", "other.py:grade"), ("n", 4), ("temperature", 1.0)])
def test_evaluations_of_another_kind_are_refused(
    graded: Any, capsys: pytest.CaptureFixture[str], name: str, value: Any
) -> None:
    assert cli.main(["eval", "compare", graded("a", [1.0]), graded("b", [1.0], **{name: value})]) == 1
    assert f"was made with {name} {SETTINGS[name]!r}, " in capsys.readouterr().err


def test_a_directory_of_something_else_is_one_line(
    graded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", "compare", graded("a", [1.0]), str(tmp_path)]) == 1
    assert "is no directory of eval grade" in capsys.readouterr().err
