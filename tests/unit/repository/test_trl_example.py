"""``examples/trl``: it runs, it learns, and its loss equals the trainer's."""

import importlib.util
import itertools
import json
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser

from pad_student.preference.config import PADConfig
from pad_student.training.batches import batch_of
from pad_student.training.trainer import PADTrainer
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder
from support.paths import ROOT

STUDENT = str(ROOT / "examples" / "tinyworld" / "student")
SCRIPT = ROOT / "examples" / "trl" / "pad.py"
ANSWERS = ("two three four five", "two three five", "five", "good morning anna")


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("trl_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their types up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Sets of tiny-world answers in every order, which a made-up teacher likes in the order of ``ANSWERS``."""
    path = tmp_path / "scored.jsonl"
    with path.open("w") as file:
        for number, order in enumerate(itertools.islice(itertools.permutations(range(4)), 0, 24, 2)):
            responses = [
                {"text": ANSWERS[k], "log_likelihood": -2.0 - k, "tokens": 2, "mean_log_likelihood": -1.0 - k / 2}
                | {"selection_probability": (0.7, 0.2, 0.07, 0.03)[k], "finished": k != 2}
                for k in order
            ]
            row = {"id": str(number), "prompt": "count from two to five", "responses": responses}
            file.write(json.dumps(row | {"teacher": {"model": "made up", "fingerprint": "f"}}) + "\n")
    return path


def sets_of(path: Path) -> list[ScoredSet]:
    return [ScoredSet.model_validate_json(line) for line in path.read_text().splitlines()]


def arguments(example: Any, folder: Path, **changes: Any) -> Any:
    settings = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_steps": 12, "logging_steps": 1}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False}
    return example.PreferenceConfig(output_dir=str(folder), save_strategy="no", **settings | quiet | changes)


def test_the_script_trains_the_tiny_student_and_its_loss_falls(example: Any, scored: Path, tmp_path: Path) -> None:
    model = SimpleNamespace(model_name_or_path=STUDENT, dtype="float32")
    config = arguments(example, tmp_path / "out", resume_from_checkpoint=None)
    trainer = example.main(SimpleNamespace(dataset_name=str(scored)), config, model)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("loss", ["ppd", "vpd"])
def test_its_loss_and_gradient_are_the_trainers(example: Any, scored: Path, tmp_path: Path, loss: str) -> None:
    sets, tokenizer = sets_of(scored)[:3], AutoTokenizer.from_pretrained(STUDENT)
    encoder = ChatEncoder.of(tokenizer)
    found = []
    for make in ("example", "ours"):
        model = AutoModelForCausalLM.from_pretrained(STUDENT)
        if make == "example":
            trainer = example.PreferenceTrainer(model, arguments(example, tmp_path, loss=loss), train_dataset=sets)
            batch = example.ScoredSetCollator(encoder, 0.8)(sets)
        else:
            config = PADConfig(str(tmp_path), loss=loss, use_cpu=True, disable_tqdm=True)
            trainer = PADTrainer(model, config, sets, tokenizer)
            batch = batch_of(sets, encoder, alpha=config.alpha)
        value = trainer.compute_loss(model, batch)
        value.backward()
        found.append((value.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-7)


@dataclass
class ModelConfig:
    """The two fields of TRL's that the example reads."""

    model_name_or_path: str
    dtype: str = "float32"


@dataclass
class ScriptArguments:
    """The one field of TRL's that the example reads."""

    dataset_name: str


class TrlParser(HfArgumentParser):
    """TRL's is a HfArgumentParser that also reads YAML files."""

    def parse_args_and_config(self) -> Any:
        return self.parse_args_into_dataclasses()


def test_its_command_line_is_taken_as_trls_parser_takes_it(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL itself is too much for this environment; tried by hand as the example's README says."""
    trl = SimpleNamespace(
        ModelConfig=ModelConfig,
        ScriptArguments=ScriptArguments,
        TrlParser=TrlParser,
        get_peft_config=lambda model_args: None,
    )
    monkeypatch.setitem(sys.modules, "trl", trl)  # type: ignore[arg-type]
    given = f"--model_name_or_path {STUDENT} --dataset_name {scored} --output_dir {tmp_path / 'out'} --max_steps 1"
    quiet = "--beta_student 3 --report_to none --disable_tqdm true --use_cpu true --dataloader_pin_memory false"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given.split(), *quiet.split()])
    ran = runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ran["training_args"].beta_student == 3
    assert (tmp_path / "out" / "model.safetensors").exists()
