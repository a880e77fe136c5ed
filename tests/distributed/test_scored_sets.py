"""Training on scored sets in two processes: weights and metrics of one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from support.distributed_training import metrics, sampled, train, weights
from support.ranks import run_ranks

SHARDED: dict[str, Any] = {"fsdp": True, "fsdp_config": {"version": 2}}


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    "how",
    [{}, {"gradient_checkpointing": True}, {"max_forward_tokens": 150}],
    ids=["plain", "gradient checkpointing", "several passes"],
)
def test_two_ranks_end_with_the_weights_and_metrics_of_one(tmp_path: Path, how: dict[str, Any], lora: bool) -> None:
    run_ranks(1, train, tmp_path / "one", how, lora, log=tmp_path / "said1")
    run_ranks(2, train, tmp_path / "two", how, lora, log=tmp_path / "said2")
    same(tmp_path)


@pytest.mark.parametrize("lora", [False, True])
def test_two_sharded_ranks_end_with_weights_and_metrics_of_one(tmp_path: Path, lora: bool) -> None:
    run_ranks(1, train, tmp_path / "one", {}, lora, log=tmp_path / "said1")
    run_ranks(2, train, tmp_path / "two", SHARDED, lora, "float64", True, log=tmp_path / "said2")
    same(tmp_path)


@pytest.mark.parametrize("staleness", [0, 1])
def test_two_sharded_ranks_sample_and_learn_as_one_does(tmp_path: Path, staleness: int) -> None:
    how = {"max_steps": 3, "staleness": staleness}
    run_ranks(1, train, tmp_path / "one", how, False, "float64", False, True, log=tmp_path / "said1")
    run_ranks(2, train, tmp_path / "two", {**SHARDED, **how}, False, "float64", True, True, log=tmp_path / "said2")
    same(tmp_path)
    of_one, of_two = (sampled(tmp_path / name) for name in ("one", "two"))
    assert of_one == of_two


def same(folder: Path, without: str = "") -> None:
    one, two = weights(folder / "one"), weights(folder / "two")
    assert one.keys() == two.keys()
    assert max((two[name] - value).abs().max().item() for name, value in one.items()) < 1e-12
    for expected, found in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert {**found, without: 0} == pytest.approx({**expected, without: 0}, rel=1e-6)


def test_bf16_weights_on_two_ranks_have_preferences_in_float32(tmp_path: Path) -> None:
    run_ranks(2, train, tmp_path, {}, False, "bfloat16", log=tmp_path / "said")
    assert {value.dtype for value in weights(tmp_path).values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "dtypes.json").read_text()) == {"loss": "torch.float32", "scores": "torch.float32"}


def test_several_passes_are_refused_if_weights_are_sharded(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="max_forward_tokens needs a student whose weights are not sharded"):
        run_ranks(
            2, train, tmp_path, {**SHARDED, "max_forward_tokens": 60}, False, "float64", True, log=tmp_path / "said"
        )


def test_a_sharded_student_must_be_saved_whole(tmp_path: Path) -> None:
    how = {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}
    with pytest.raises(AssertionError, match="set fsdp_state_dict_type to FULL_STATE_DICT"):
        run_ranks(2, train, tmp_path, how, False, "float64", True, log=tmp_path / "said")


STEP: dict[str, Any] = {"optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0}


# Only a run that samples can have sets refused: scored sets are scored already.
ORIGINS = [(False, ()), (True, ()), (True, ("p0", "p4")), (True, ("p1", "p3", "p2", "p0"))]


@pytest.mark.parametrize(("samples", "refused"), ORIGINS, ids=str)
@pytest.mark.parametrize("sharded", [False, True], ids=["DDP", "FSDP2"])
def test_ragged_steps_weigh_each_prompt_alike_on_two_ranks(
    tmp_path: Path, samples: bool, sharded: bool, refused: Any
) -> None:
    common = {**STEP, "rows": 5, "refused": refused}
    one = {**common, "per_device_train_batch_size": 5, "gradient_accumulation_steps": 1}
    two = {**common, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    two |= SHARDED if sharded else {}
    run_ranks(1, train, tmp_path / "one", one, False, "float64", False, samples, log=tmp_path / "said1")
    run_ranks(2, train, tmp_path / "two", two, False, "float64", sharded, samples, log=tmp_path / "said2")
    same(tmp_path, without="agreement/pairwise")  # prompts differ in their untied pairs
