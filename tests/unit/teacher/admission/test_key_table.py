"""``pad-teacher key list``: the operator's view of all keys."""

from pathlib import Path

import pytest

from pad_teacher.admission.budgets import DAY_SECONDS, day_of
from pad_teacher.admission.key_table import DAYS
from pad_teacher.admission.keys import add_key, revoke_key
from pad_teacher.admission.usage_file import UsageFile
from pad_teacher.cli import main

NOW = 1_795_000_000.0


def days_ago(count: int) -> str:
    return day_of(NOW - count * DAY_SECONDS)


def table(capsys: pytest.CaptureFixture[str], keys: Path, *options: str) -> dict[str, list[str]]:
    assert main(["key", "list", "--keys", str(keys), *options]) == 0
    return {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pad_teacher.admission.key_table.time.time", lambda: NOW)
    add_key(tmp_path / "keys", "ada", weight=2.5, tokens_per_day=9000)
    add_key(tmp_path / "keys", "ops", metrics=True)
    return tmp_path / "keys"


def test_all_keys_are_listed_with_their_limits(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = table(capsys, keys)
    assert listed["ada"] == ["2.5", "-", "9000", "-"]
    assert listed["ops"] == ["1", "-", "-", "yes"]


def test_usage_is_that_of_today_and_of_the_week(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_key(keys, "gone")
    revoke_key(keys, "gone")
    for _ in range(2):  # two replicas that share the folder
        used = {("ada", days_ago(0)): 1200, ("ada", days_ago(DAYS - 1)): 30, ("ada", days_ago(DAYS)): 7}
        UsageFile(tmp_path / "data", days_ago(9)).write(used | {("gone", days_ago(1)): 5})
    listed = table(capsys, keys, "--usage", str(tmp_path / "data"))
    assert listed["ada"][-2:] == ["2,400", "2,460"]
    assert listed["ops"][-2:] == ["0", "0"]
    assert listed["gone"] == ["revoked", "-", "-", "-", "0", "10"]


@pytest.mark.parametrize(
    ("folder", "said"), [("data", "name the directory of pad-teacher serve --data"), ("x" * 5000, "cannot read")]
)
def test_a_folder_without_usage_is_one_line(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, said: str
) -> None:
    assert main(["key", "list", "--keys", str(keys), "--usage", str(tmp_path / folder)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()
