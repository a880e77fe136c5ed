"""Every wrong value of TrainingArguments is one line that names it, before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from pad_student.errors import ConfigError, SamplingError
from pad_student.preference.config import PADConfig
from pad_student.training.trainer import PADTrainer
from support.fakes import TEMPLATE, byte_tokenizer
from support.student_runs import config, scored_sets
from support.tiny import tiny_model


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"optim": "adamm"}, "adamm"),
        ({"lr_scheduler_type": "cosinus"}, "cosinus"),
        ({"save_strategy": "sometimes"}, "sometimes"),
        ({"save_steps": "often"}, "save_steps: expected a number, got 'often'"),
        ({"save_steps": 0}, "save_steps: expected a number above 0, got 0"),
        ({"logging_steps": True}, "logging_steps: expected a number, got True"),
        ({"weight_decay": -1}, "weight_decay: expected 0 or more, got -1"),
        ({"warmup_steps": "ten"}, "warmup_steps: expected a number"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: expected a number above 0"),
        ({"bf16": True, "fp16": True}, "fp16"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is not supported: .* no labels"),
        ({"eval_steps": 0}, "eval_steps: expected a number above 0, got 0"),
        ({"weight_decay": float("nan")}, "weight_decay: expected a finite number, got nan"),
        ({"train_sampling_strategy": "group_by_length"}, "group_by_length needs rows of token ids"),
        ({"load_best_model_at_end": True}, "requires the save and eval strategy to match"),
        ({"push_to_hub": True}, "push_to_hub needs a login"),
    ],
)
def test_a_wrong_value_is_one_line(
    tmp_path: Path, wrong: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match=complaint) as caught:
        config(tmp_path, **wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["save_strategy", "logging_strategy"])
def test_no_in_yaml_is_the_word_no(tmp_path: Path, name: str) -> None:
    assert getattr(PADConfig(str(tmp_path), use_cpu=True, **{name: False}), name).value == "no"


def test_true_switches_sharding_on(tmp_path: Path) -> None:
    assert config(tmp_path, fsdp=True, fsdp_config={"version": 2}).fsdp is True


@pytest.mark.parametrize(
    ("wrong", "others", "complaint"),
    [
        ({}, {"compute_metrics": dict}, "compute_metrics: PADTrainer has its own"),
        ({"eval_strategy": "steps"}, {}, "eval_dataset"),
        ({}, {"data_collator": list}, "data_collator: PADTrainer has its own"),
        ({"optim": "adamw_8bit"}, {}, "bitsandbytes"),
        ({"optim_args": "betas"}, {}, "optim_args"),
        ({"lr_scheduler_kwargs": {"waves": 3}}, {}, "waves"),
    ],
)
def test_what_a_trainer_cannot_use_ends_at_its_construction(
    tmp_path: Path, wrong: dict[str, Any], others: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        PADTrainer(tiny_model(), config(tmp_path, **wrong), scored_sets(), byte_tokenizer(), **others)
    assert "\n" not in str(caught.value)


def test_a_student_without_a_free_weight_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every weight of the student is frozen"):
        PADTrainer(tiny_model().requires_grad_(False), config(tmp_path), scored_sets(), byte_tokenizer())


def test_a_template_that_loses_text_is_refused_in_python(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("message.content", "message.content | lower")
    given = (tiny_model(), config(tmp_path), scored_sets(), tokenizer)
    with pytest.raises(SamplingError, match="template-prompt"):
        PADTrainer(*given)
    PADTrainer(*given, allow=["template-prompt", "template-answer"])
