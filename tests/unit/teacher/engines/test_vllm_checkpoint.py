"""A checkpoint is compared with its config before vLLM loads it: vLLM itself serves memory in place of weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pad_teacher.engines.vllm import checkpoint, launch
from pad_teacher.engines.vllm.engine import VllmEngine
from pad_torch.findings import NotAsSaved
from support.tiny import vllm_model

Change = Callable[[dict[str, torch.Tensor]], Any]
HEAD, QUERY = "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vllm_model("llama").save_pretrained(tmp_path)
    return tmp_path


def changed(folder: Path, change: Change) -> Path:
    weights = load_file(folder / checkpoint.WHOLE)
    change(weights)
    save_file(weights, folder / checkpoint.WHOLE, metadata={"format": "pt"})
    return folder


def quantised(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if "_proj." in name]:
        home = name.removesuffix("weight")
        rows, _ = weights.pop(name).shape
        weights[f"{home}qweight"] = torch.zeros(rows, 4, dtype=torch.int32)
        weights[f"{home}scales"] = torch.ones(rows)


def with_config(folder: Path, **settings: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


@pytest.mark.parametrize("name", [HEAD, QUERY, "model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_missing_weight_is_named(folder: Path, name: str) -> None:
    checkpoint.check(folder, {}, [])
    with pytest.raises(NotAsSaved, match=name) as refused:
        checkpoint.check(changed(folder, lambda weights: weights.pop(name)), {}, ["unused-weights"])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [QUERY.replace("weight", "bias"), QUERY.replace("0", "9")])
def test_a_weight_left_over_is_named_and_can_be_allowed(folder: Path, name: str) -> None:
    changed(folder, lambda weights: weights.update({name: torch.ones(3)}))
    with pytest.raises(NotAsSaved, match=f"{name}.*--allow unused-weights"):
        checkpoint.check(folder, {}, [])
    checkpoint.check(folder, {}, ["unused-weights"])


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    changed(folder, lambda weights: weights.update({QUERY: torch.ones(3, 3)}))
    with pytest.raises(NotAsSaved, match=f"{QUERY} in another shape"):
        checkpoint.check(folder, {}, [])


def test_the_config_is_the_one_that_vllm_is_given(folder: Path) -> None:
    changed(folder, lambda weights: weights.pop(HEAD))
    checkpoint.check(folder, {"tie_word_embeddings": True, "head_dtype": "float32"}, [])


def test_a_second_file_that_vllm_would_load_over_it_is_named(folder: Path) -> None:
    shutil.copy(folder / checkpoint.WHOLE, folder / "old.safetensors")
    with pytest.raises(NotAsSaved, match=r"would load old\.safetensors over model\.safetensors"):
        checkpoint.check(folder, {}, [])


def test_a_cut_or_missing_file_is_one_line(folder: Path) -> None:
    whole = (folder / checkpoint.WHOLE).read_bytes()
    (folder / checkpoint.WHOLE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NotAsSaved, match="cannot be read"):
        checkpoint.check(folder, {}, [])
    vllm_model("llama").save_pretrained(folder, max_shard_size="200KB")
    (folder / checkpoint.WHOLE).unlink()
    checkpoint.check(folder, {}, [])
    next(folder.glob("*-of-*.safetensors")).unlink()
    with pytest.raises(OSError, match="of-"):
        checkpoint.check(folder, {}, [])


def test_quantised_weights_are_compared_by_module(folder: Path) -> None:
    with_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    checkpoint.check(changed(folder, quantised), {}, [])
    home = "model.layers.0.self_attn.q_proj."
    changed(folder, lambda weights: [weights.pop(f"{home}{part}") for part in ("qweight", "scales")])
    with pytest.raises(NotAsSaved, match=f"lacks the weight {home}weight"):
        checkpoint.check(folder, {}, [])


def test_a_model_that_transformers_lacks_is_left_to_vllm(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.check(with_config(folder, model_type="unheard-of"), {}, [])
    (folder / checkpoint.WHOLE).rename(folder / "consolidated.safetensors")
    checkpoint.check(folder, {}, [])
    assert capsys.readouterr().out.count("vLLM alone checks them") == 2


def test_the_files_that_are_compared_are_those_that_are_loaded(folder: Path) -> None:
    assert checkpoint.load_format(folder) == "auto"
    (folder / "consolidated.safetensors").touch()
    (folder / checkpoint.INDEX).touch()
    assert checkpoint.load_format(folder) == "safetensors"


def test_vllm_is_not_started_with_what_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "prepare", lambda options: None)
    monkeypatch.setattr(launch, "arguments", None)
    changed(folder, lambda weights: weights.pop(HEAD))
    limits: dict[str, Any] = {"max_context_tokens": None, "max_batch_tokens": 256}
    with pytest.raises(NotAsSaved, match=HEAD):
        VllmEngine.load(str(folder), revision=None, dtype="float32", options={}, **limits)
