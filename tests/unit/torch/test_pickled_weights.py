"""Weights in pickle form are loaded as tensors alone: nothing in them is run, and a bad file is one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from pad_torch.checkpoint import load_model
from pad_wire.model_names import why_unreadable

SIZES: dict[str, Any] = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def pickled(folder: Path, kind: str) -> Path:
    """A model, or an adapter on it, whose weights are in a pickle; returns that file."""
    base = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=1))
    base.save_pretrained(folder)
    if kind == "adapter":
        adapted = get_peft_model(load_model(str(folder)), LoraConfig(r=2, target_modules=["q_proj"]))
        folder = folder / kind
        adapted.save_pretrained(folder)
    (whole,) = folder.glob("*.safetensors")
    torch.save(load_file(whole), folder / NAMES[kind])
    whole.unlink()
    return folder / NAMES[kind]


NAMES = {"model": "pytorch_model.bin", "adapter": "adapter_model.bin"}


class Runs:
    """An object whose unpickling would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", NAMES)
def test_pickled_weights_are_loaded(tmp_path: Path, kind: str) -> None:
    folder = pickled(tmp_path, kind).parent
    assert why_unreadable(folder) is None
    assert load_model(str(folder)).config.hidden_size == 16


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("how", ["runs", "empty", "html", "cut"])
def test_a_bad_pickle_is_one_line_and_never_run(tmp_path: Path, kind: str, how: str) -> None:
    weights, mark = pickled(tmp_path, kind), tmp_path / "ran"
    match how:
        case "runs":
            torch.save({"w": Runs(mark)}, weights)
        case "cut":
            weights.write_bytes(weights.read_bytes()[:1000])
        case _:
            weights.write_bytes(b"" if how == "empty" else b"<html>no such file</html>")
    with pytest.raises((OSError, ValueError)) as caught:
        load_model(str(weights.parent))
    assert "\n" not in str(caught.value)
    assert str(weights.parent) in str(caught.value)
    assert not mark.exists()
