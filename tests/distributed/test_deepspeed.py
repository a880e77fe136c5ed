"""Two processes under DeepSpeed's ZeRO next to one without it, in float32: DeepSpeed knows no float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.distributed_training import launched_student_command, metrics, sampled, scored_sets, train, weights, zero
from support.ranks import run_ranks

ALONE = {"shares": False}  # ZeRO-3 does not share prompts either


@pytest.mark.parametrize(
    ("stage", "how", "lora"),
    [
        (1, {}, False),
        (2, {}, False),
        (2, {"gradient_checkpointing": True}, True),
        (2, {"max_forward_tokens": 150}, False),
        (3, {}, False),
        (3, {}, True),
        (3, {}, ["lm_head", "q_proj"]),
        (3, {"gradient_checkpointing": True}, False),
    ],
)
def test_two_ranks_end_with_the_weights_and_metrics_of_one(
    tmp_path: Path, stage: int, how: dict[str, Any], lora: bool | list[str]
) -> None:
    run_ranks(1, train, tmp_path / "one", ALONE | how, lora, "float32", log=tmp_path / "said1")
    with_zero = {"deepspeed": zero(stage), **ALONE, **how}
    run_ranks(2, train, tmp_path / "two", with_zero, lora, "float32", log=tmp_path / "said2")
    same(tmp_path)


@pytest.mark.parametrize(("stage", "staleness"), [(2, 0), (3, 0), (3, 1)])
def test_two_ranks_sample_and_learn_what_one_does(tmp_path: Path, stage: int, staleness: int) -> None:
    how = {"max_steps": 3, "staleness": staleness, **ALONE}
    run_ranks(1, train, tmp_path / "one", how, False, "float32", False, True, log=tmp_path / "said1")
    how["deepspeed"] = zero(stage)
    run_ranks(2, train, tmp_path / "two", how, False, "float32", False, True, log=tmp_path / "said2")
    same(tmp_path)
    assert sampled(tmp_path / "one") == sampled(tmp_path / "two")


def test_sets_left_out_leave_the_mean_over_the_others(tmp_path: Path) -> None:
    how = {"refused": ("p0", "p3"), "rows": 5, **ALONE}
    cut = {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 1}
    run_ranks(1, train, tmp_path / "one", how | cut, False, "float32", False, True, log=tmp_path / "said1")
    cut = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "deepspeed": zero(2)}
    run_ranks(2, train, tmp_path / "two", how | cut, False, "float32", False, True, log=tmp_path / "said2")
    same(tmp_path, without="agreement/pairwise")  # prompts differ in their untied pairs


@pytest.mark.parametrize("stage", [2, 3])
def test_accelerates_example_settings_train_and_save_16_bits(
    stage: int, tiny_directory: Path, tmp_path: Path
) -> None:
    sets, out = tmp_path / "scored.jsonl", tmp_path / "out"
    sets.write_text("".join(each.model_dump_json(exclude_none=True) + "\n" for each in scored_sets()))
    command = [*("train", "--scored", sets, "--model", tiny_directory, "--out", out), *("--use-cpu", "true")]
    command += [*("--prompts-per-step", 4, "--max-steps", 2), *("--report-prompts", 1)]
    examples = Path(__file__).parents[2] / "examples" / "accelerate"
    arguments = map(str, (examples / f"zero{stage}.yaml", *command))
    run_ranks(2, launched_student_command, *arguments, log=tmp_path / "said")
    assert {value.dtype for value in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert [line["step"] for line in metrics(out)] == [1, 2]


def test_zero_3_that_would_not_save_a_student_is_refused(tmp_path: Path) -> None:
    shards = {"stage": 3}
    how = {"deepspeed": zero(3) | {"zero_optimization": shards}}
    with pytest.raises(AssertionError, match="set zero3_save_16bit_model"):
        run_ranks(2, train, tmp_path, how, False, "float32", log=tmp_path / "said")


def same(folder: Path, without: str = "") -> None:
    one, two = weights(folder / "one"), weights(folder / "two")
    assert one.keys() == two.keys()
    assert {value.dtype for value in two.values()} == {torch.float32}
    assert max((two[name] - value).abs().max().item() for name, value in one.items()) < 1e-5
    for expected, found in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert {**found, without: 0} == pytest.approx({**expected, without: 0}, rel=1e-5, abs=1e-5)
