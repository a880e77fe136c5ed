"""Whether a model's name is a directory or an id on the Hub."""

import json
from pathlib import Path

import pytest

from pad_wire.model_names import is_directory, is_missing_directory, why_unreadable


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-0.5B"])
def test_a_hub_id_is_no_missing_directory(name: str) -> None:
    assert not is_missing_directory(name)


@pytest.mark.parametrize("name", ["/gone", "./gone", "a/b/c"])
def test_a_path_that_is_not_there_is_recognised(name: str) -> None:
    assert is_missing_directory(name)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" + "x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_a_hub_id(name: str) -> None:
    assert not is_missing_directory(name)
    assert not is_directory(name)


def test_a_name_in_a_directory_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "here").mkdir(parents=True)
    assert is_missing_directory("models/gone")
    assert not is_missing_directory("models/here")


def model(folder: Path, weights: bytes = b"12345678", name: str = "model.safetensors") -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + weights)
    return folder


def test_a_whole_model_is_readable(tmp_path: Path) -> None:
    assert why_unreadable(model(tmp_path)) is None


def test_weights_that_were_cut_are_named_without_torch(tmp_path: Path) -> None:
    assert "model.safetensors is shorter than its header says" in str(why_unreadable(model(tmp_path, b"1234567")))
    (tmp_path / "model.safetensors").write_bytes(b"<html>")
    assert "no whole file of weights" in str(why_unreadable(tmp_path))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"\xff\xfe\xfd",
        b"[]",
        b"7",
        b"[" * 100_000,
        b'{"w": 1}',
        b'{"w": {}}',
        b'{"w": {"data_offsets": []}}',
        b'{"w": {"data_offsets": [0, "8"]}}',
        b'{"w": {"data_offsets": [0, null]}}',
    ],
)
def test_an_odd_header_of_weights_is_one_line(tmp_path: Path, header: bytes) -> None:
    weights = model(tmp_path) / "model.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header + b"12345678")
    assert why_unreadable(tmp_path) == f"{weights} is no whole file of weights; copy the model again"


@pytest.mark.parametrize("length", [b"", b"\xff" * 8, (2**40).to_bytes(8, "little")])
def test_an_odd_length_of_the_header_is_one_line(tmp_path: Path, length: bytes) -> None:
    weights = model(tmp_path) / "model.safetensors"
    weights.write_bytes(length + b"{}")
    assert "no whole file of weights" in str(why_unreadable(tmp_path))
    weights.write_bytes((9).to_bytes(8, "little") + b"{}")
    assert "shorter than its header says" in str(why_unreadable(tmp_path))


@pytest.mark.parametrize("config", [b"[]", b"3", b"null", b"[" * 100_000, b"\xff"])
def test_an_odd_config_is_one_line(tmp_path: Path, config: bytes) -> None:
    (model(tmp_path) / "config.json").write_bytes(config)
    assert "has a config or an index that is no JSON object" in str(why_unreadable(tmp_path))


@pytest.mark.parametrize("index", [b"[]", b"{}", b'{"weight_map": 3}', b'{"weight_map": {"w": 3}}', b"[" * 100_000])
def test_an_odd_index_is_one_line(tmp_path: Path, index: bytes) -> None:
    (model(tmp_path) / "model.safetensors.index.json").write_bytes(index)
    assert "has a config or an index that is no JSON object" in str(why_unreadable(tmp_path))


def test_a_config_that_is_a_directory_is_one_line(tmp_path: Path) -> None:
    (model(tmp_path) / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    assert "config.json cannot be read: Is a directory" in str(why_unreadable(tmp_path))


def test_a_part_that_the_index_names_has_to_be_there(tmp_path: Path) -> None:
    model(tmp_path, name="model-1-of-2.safetensors")
    parts = {"weight_map": {"w": "model-1-of-2.safetensors", "v": "model-2-of-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(parts))
    assert "lacks model-2-of-2.safetensors" in str(why_unreadable(tmp_path))


def test_a_directory_without_a_model_says_what_it_lacks(tmp_path: Path) -> None:
    assert "no config.json" in str(why_unreadable(tmp_path))
    (tmp_path / "config.json").write_text("{")
    assert "no JSON object" in str(why_unreadable(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert "holds no weights" in str(why_unreadable(tmp_path))
