"""A rerun of a finished run: it saves what the first start had no time to save, and goes on if it may."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from pad_student.commands import finished, train
from pad_student.commands.settings import TrainSettings
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
    monkeypatch.setattr(finished, "newest_whole", lambda _: checkpoint)
    monkeypatch.setattr(finished, "is_finished", lambda *_: True)
    monkeypatch.setattr(finished, "write_after", lambda _: None)
    config: Any = SimpleNamespace(output_dir=str(out), max_steps=2, num_train_epochs=1.0, process_index=0)
    config.load_best_model_at_end = False
    assert finished.is_done(SimpleNamespace(early_stopping=None), config)  # type: ignore[arg-type]
    weights = "adapter_model.safetensors" if adapter else "model.safetensors"
    assert (out / weights).read_bytes() == (checkpoint / weights).read_bytes()
    assert (out / "adapter_config.json").exists() == adapter
    assert (out / "tokenizer.json").exists()


def still_run(folder: Path, **changes: Any) -> TrainSettings:
    """A run of 8 steps whose student stays as it is, so that no evaluation is better than the first one."""
    base = folder / "base"
    if not base.exists():
        save_tiny_student(base)
        numbers = {"log_likelihood": -2.0, "tokens": 2, "mean_log_likelihood": -1.0, "selection_probability": 0.5}
        rest = {"prompt": "why?", "label_mass": 0.9, "teacher": {"model": "t", "fingerprint": "f"}}
        rows = [{"id": f"s{k}", "responses": [{"text": t, **numbers} for t in ("yes", "no")], **rest} for k in "abcd"]
        (folder / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainer = {"use_cpu": True, "disable_tqdm": True, "eval_steps": 1, **changes.pop("trainer", {})}
    settings = {"max_steps": 8, "prompts_per_step": 2, "learning_rate": 1e-30, "report_prompts": 0, "parts": 1}
    files = {"scored": folder / "scored.jsonl", "eval_prompts": folder / "scored.jsonl", "out": folder / "run"}
    return TrainSettings(model=str(base), trainer=trainer, **files, **settings | changes)


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "run" / "evaluations.jsonl").read_text().splitlines()]


def test_a_run_that_stopped_early_goes_on_if_it_may(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.run(still_run(tmp_path, early_stopping=2))
    assert steps(tmp_path) == [1, 2, 3]
    for same in ({"early_stopping": 2}, {"early_stopping": 1}, {"early_stopping": 2, "max_steps": 20}):
        capsys.readouterr()
        train.run(still_run(tmp_path, **same))
        assert "early_stopping = 2 ended it at step 3. With a larger one" in capsys.readouterr().err
    train.run(still_run(tmp_path, early_stopping=4))
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    train.run(still_run(tmp_path))
    assert steps(tmp_path) == [*range(1, 9)]
    capsys.readouterr()
    train.run(still_run(tmp_path, early_stopping=4))
    assert "already trained to its end" in capsys.readouterr().err


def test_a_kill_does_not_move_the_step_of_an_early_stop(tmp_path: Path) -> None:
    train.run(still_run(tmp_path, max_steps=2, early_stopping=3))
    train.run(still_run(tmp_path, early_stopping=3))
    assert steps(tmp_path) == [1, 2, 3, 4]


# pyright: standard
