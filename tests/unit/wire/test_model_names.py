"""Whether a model's name is a directory or an id on the Hub."""

from pathlib import Path

import pytest

from pad_wire.model_names import is_missing_directory


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-0.5B"])
def test_a_hub_id_is_no_missing_directory(name: str) -> None:
    assert not is_missing_directory(name)


@pytest.mark.parametrize("name", ["/gone", "./gone", "a/b/c"])
def test_a_path_that_is_not_there_is_recognised(name: str) -> None:
    assert is_missing_directory(name)


def test_a_name_in_a_directory_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "here").mkdir(parents=True)
    assert is_missing_directory("models/gone")
    assert not is_missing_directory("models/here")
