"""``pad-student audit``: what it prints and writes, its gate, and several teachers side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pad_student.commands import audit as command
from pad_student.commands import cli
from pad_student.commands.settings import DistillSettings
from pad_student.teacher.client import Teacher
from support.fake_teacher import FakeTeacherService


@pytest.fixture(autouse=True)
def teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likes the longer response, by choice alone."""
    connect = lambda access, _=None: Teacher(access.teacher, transport=FakeTeacherService().transport)  # noqa: E731
    monkeypatch.setattr(command, "connect", connect)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """The best response is the longest one."""
    responses = [["the longest" * (i + 2), "short", "mid" * 3] for i in range(14)]
    rows = [{"id": f"s{i}", "prompt": "which?", "responses": three} for i, three in enumerate(responses)]
    path = tmp_path / "sets.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def audit(*arguments: Any) -> int:
    return cli.main(["audit", *map(str, arguments)])


def test_an_audit_prints_a_table_and_writes_json_and_settings(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit("--teacher", "http://a.test", "--sets", sets, "--out", tmp_path / "audit") == 0
    printed = capsys.readouterr().out
    assert "choice listwise cyclic" in printed
    assert "Without position bias all are equal" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 80
    (found,) = json.loads((tmp_path / "audit" / "audit.json").read_text())["teachers"]
    assert found["choice"]["sets"] == 14
    assert found["signals"][0]["mean"] == 0.5  # this teacher finds all responses equally likely
    settings = yaml.safe_load((tmp_path / "audit" / "recommended.yaml").read_text())
    assert settings["alpha"] == 1
    assert settings.keys() <= DistillSettings.model_fields.keys()


def test_a_gate_that_is_not_reached_is_exit_status_1(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--teacher", "http://a.test", "--out", tmp_path]
    assert audit(*where, "--sets", sets, "--require", 0.99) == 0
    reverse = tmp_path / "reverse.jsonl"
    rows = [json.loads(line) for line in sets.read_text().splitlines()]
    reverse.write_text("".join(json.dumps({**row, "responses": row["responses"][::-1]}) + "\n" for row in rows))
    assert audit(*where, "--sets", reverse, "--require", 0.9) == 1
    assert "0.9 is required" in capsys.readouterr().err


@pytest.mark.parametrize("urls", [["http://a.test,http://b.test"], ["http://a.test", "--teacher", "http://b.test"]])
def test_several_teachers_stand_side_by_side(sets: Path, tmp_path: Path, urls: list[str]) -> None:
    assert audit("--teacher", *urls, "--sets", sets, "--out", tmp_path) == 0
    teachers = json.loads((tmp_path / "audit.json").read_text())["teachers"]
    assert [each["url"] for each in teachers] == ["http://a.test", "http://b.test"]


def test_without_sets_the_shipped_ones_are_asked(tmp_path: Path) -> None:
    assert audit("--teacher", "http://a.test", "--out", tmp_path) == 0
    (found,) = json.loads((tmp_path / "audit.json").read_text())["teachers"]
    assert found["likelihood"]["sets"] >= 60
