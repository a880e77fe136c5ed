"""A rerun of a finished run saves what the first start had no time to save, as that start would have saved it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from pad_student.commands import train
from pad_student.sampling.generate import load_student
from support.tiny_student import save_tiny_student


@pytest.mark.parametrize("adapter", [False, True])
def test_a_finished_run_is_saved_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: bool
) -> None:
    base, checkpoint, out = tmp_path / "base", tmp_path / "checkpoint-2", tmp_path / "out"
    save_tiny_student(base)
    student = load_student(str(base))
    tokenizer: Any = student.encoder.tokenizer
    model = student.model
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    out.mkdir()
    monkeypatch.setattr(train, "newest_whole", lambda _: checkpoint)
    monkeypatch.setattr(train, "is_finished", lambda *_: True)
    monkeypatch.setattr(train, "write_after", lambda _: None)
    config: Any = SimpleNamespace(output_dir=str(out), max_steps=2, num_train_epochs=1.0, process_index=0)
    assert train.is_done(config)
    weights = "adapter_model.safetensors" if adapter else "model.safetensors"
    assert (out / weights).read_bytes() == (checkpoint / weights).read_bytes()
    assert (out / "adapter_config.json").exists() == adapter
    assert (out / "tokenizer.json").exists()


# pyright: standard
