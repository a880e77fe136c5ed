"""liger-kernel is Triton's and needs a GPU: here another library stands in its place."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pad_student.errors import ConfigError, UnsupportedModel
from pad_student.training.trainer import PADTrainer
from support.fakes import byte_tokenizer
from support.student_runs import config, scored_sets
from support.tiny import tiny_model

LOSSES = {"cross_entropy": False, "fused_linear_cross_entropy": False}


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pad_student.preference.config.is_liger_kernel_available", lambda: True)
    monkeypatch.setattr("pad_student.preference.config.KERNELS_RUN_ON", ("cpu",))


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("asked", "taken"), [(None, LOSSES), ({"swiglu": False}, {"swiglu": False, **LOSSES})])
def test_kernels_of_layers_are_taken_and_those_of_losses_left(tmp_path: Path, asked: Any, taken: Any) -> None:
    assert config(tmp_path, use_liger_kernel=True, liger_kernel_config=asked).liger_kernel_config == taken


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_loss_of_ligers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fused_linear_cross_entropy is a loss of its own"):
        config(tmp_path, use_liger_kernel=True, liger_kernel_config={"fused_linear_cross_entropy": True})


def test_what_is_missing_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="pip install liger-kernel"):
        config(tmp_path, use_liger_kernel=True)
    monkeypatch.setattr("pad_student.preference.config.is_liger_kernel_available", lambda: True)
    with pytest.raises(ConfigError, match="needs a GPU"):
        config(tmp_path, use_liger_kernel=True)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("wrong", [False, True])
def test_a_wrong_kernel_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    told: list[Any] = []

    def patch(model: Any, kernels: Any) -> None:
        told.append(kernels)
        model.model.norm.variance_epsilon += wrong * 10.0

    monkeypatch.setattr("pad_student.model.liger.apply_liger_kernel", patch)
    settings = config(tmp_path, use_liger_kernel=True)
    with pytest.raises(UnsupportedModel, match="liger's kernels change") if wrong else nullcontext():
        PADTrainer(tiny_model(), settings, scored_sets(), byte_tokenizer())
    assert told == [LOSSES]
