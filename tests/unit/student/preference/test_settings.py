"""The settings that PADConfig and the commands share are one definition on both sides."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import pytest
from transformers import HfArgumentParser

from pad_student.commands.settings import DistillSettings, TrainSettings
from pad_student.errors import ConfigError
from pad_student.preference.config import PADConfig
from pad_student.preference.losses import LOSSES
from pad_student.preference.settings import (
    Loss,
    OnPolicySettings,
    PreferenceSettings,
    QuestionSettings,
    RefusalSettings,
    TemplateSettings,
)

PARTS = (OnPolicySettings, PreferenceSettings, RefusalSettings, QuestionSettings, TemplateSettings)
SHARED = [each.name for part in PARTS for each in fields(part)]


def test_every_loss_can_be_chosen() -> None:
    assert get_args(Loss) == tuple(LOSSES)


@pytest.mark.parametrize("name", SHARED)
def test_config_and_command_share_default_and_help(name: str) -> None:
    own = next(each for each in fields(PADConfig) if each.name == name)
    of_the_command = DistillSettings.model_fields[name]
    assert own.default == of_the_command.default is not MISSING
    assert own.metadata["help"] == of_the_command.description


def test_train_has_the_settings_that_sample_nothing() -> None:
    shared = set(SHARED) & TrainSettings.model_fields.keys()
    assert shared == {
        each.name for part in (PreferenceSettings, RefusalSettings, TemplateSettings) for each in fields(part)
    }


def test_transformers_parser_reads_them(tmp_path: Path) -> None:
    arguments = ["--output_dir", str(tmp_path), "--use_cpu", "--loss", "vpd", "--alpha", "0.5"]
    (config,) = HfArgumentParser(PADConfig).parse_args_into_dataclasses(arguments)
    assert (config.loss, config.alpha, config.n) == ("vpd", 0.5, 4)


def test_transformers_parser_reads_arguments_of_the_template(tmp_path: Path) -> None:
    given = ["--template_args", '{"enable_thinking": false}', "--date", "2026-01-31"]
    arguments = ["--output_dir", str(tmp_path), "--use_cpu", *given]
    (config,) = HfArgumentParser(PADConfig).parse_args_into_dataclasses(arguments)
    assert (config.template_args, config.date) == ({"enable_thinking": False}, "2026-01-31")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"alpha": 2}, "alpha: .*less than or equal to 1, got 2"),
        ({"loss": "dpo"}, "loss: .*'ppd'.*got 'dpo'"),
        ({"orders": "none"}, "orders: .*got 'none'"),
        ({"date": "31.1.2026"}, "date: .*as in 2026-01-31, got '31.1.2026'"),
        ({"template_args": "a, b"}, "template_args: .*enable_thinking"),
        ({"staleness": -1}, "staleness: .*greater than or equal to 0, got -1"),
    ],
)
def test_a_value_out_of_bounds_names_the_setting(tmp_path: Path, wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        PADConfig(str(tmp_path), use_cpu=True, **wrong)
