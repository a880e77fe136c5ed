"""``pad-student distill`` in two processes: the result of one, also after a kill."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
import pytest
from safetensors.torch import load_file

from pad_student.storage import jsonl
from pad_wire import SampledSet, ScoredSet
from support.distributed_training import sharded_student_command, zero, zero_student_command
from support.processes import TeacherProcess, teacher_process
from support.ranks import end_of, run_ranks, said, start_ranks, student_command

STEPS = 5
ENGINES: dict[str, tuple[Callable[..., None], list[str]]] = {
    "DDP": (student_command, []),
    "FSDP2": (sharded_student_command, ["--fsdp", "true", "--fsdp-config", '{"version": 2}']),
    "ZeRO-3": (zero_student_command, ["--deepspeed", json.dumps(zero(3))]),
}
PART_OF = {"DDP": "optimizer.pt", "FSDP2": "pytorch_model_fsdp.bin", "ZeRO-3": "latest"}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"id": f"p{k}", "prompt": f"say {k}"}) + b"\n" for k in range(12)))
    return path


def distill(teacher: str, model: Path, prompts: Path, out: Path, *more: Any) -> list[str]:
    # What is sampled together decides what is drawn: here one prompt at a time, in either process.
    options = [
        *("distill", "--teacher", teacher, "--model", model, "--prompts", prompts, "--output-dir", out),
        *("--max-steps", STEPS, "--prompts-per-step", 4, "--max-response-tokens", 5, "--learning-rate", 1e-3),
        *("--save-steps", 2, "--use-cpu", "true", "--sampling-batch-size", 1, "--report-prompts", 2),
        *("--per-device-train-batch-size", 1, "--keep-rounds", "all"),
    ]
    return [str(each) for each in (*options, *more)]


def weights(folder: Path) -> dict[str, Any]:
    return {name: value.flatten().tolist() for name, value in load_file(folder / "model.safetensors").items()}


def starts(folder: Path) -> int:
    """How often the run has begun; its present line may still be written."""
    return (folder / "starts.jsonl").read_text().count("\n")


def lines(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def ids(folder: Path, name: str, model: type[SampledSet] | type[ScoredSet]) -> list[str]:
    return [each.id for path in sorted(folder.glob(f"rounds/*/{name}.jsonl")) for each in jsonl.read(path, model)]


def sets_of_both(folder: Path) -> tuple[list[str], list[str]]:
    """The scored sets of each rank; what it sampled is what it has scores of."""
    own = ids(folder, "scored", ScoredSet), ids(folder, "scored-1", ScoredSet)
    assert sorted(own[0]) == sorted(ids(folder, "sets", SampledSet))
    assert sorted(own[1]) == sorted(ids(folder, "sets-1", SampledSet))
    return own


def test_two_ranks_distil_as_one_and_share_the_sets_between_them(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    one, two, log = tmp_path / "one", tmp_path / "two", tmp_path / "said"
    run_ranks(1, student_command, *distill(shared_teacher.url, tiny_directory, prompts, one), log=tmp_path / "alone")
    run_ranks(2, student_command, *distill(shared_teacher.url, tiny_directory, prompts, two), log=log)
    first, second = sets_of_both(two)
    assert len(first) == len(second) == STEPS * 2
    assert not set(first) & set(second)
    assert sorted(chain(first, second)) == sorted(ids(one, "scored", ScoredSet))
    for expected, found in zip(lines(one, "metrics.jsonl"), lines(two, "metrics.jsonl"), strict=True):
        assert found == pytest.approx(expected, abs=2e-5)
    theirs = weights(two)
    assert all(theirs[name] == pytest.approx(values, abs=2e-5) for name, values in weights(one).items())
    spent = [[line["teacher_tokens"] for line in lines(folder, "costs.jsonl")] for folder in (one, two)]
    assert sum(spent[0]) == sum(spent[1])
    assert "teacher tokens scored" in said(log, 0)
    assert "teacher tokens" not in said(log, 1)
    assert (two / "report.html").exists()


def test_two_ranks_leave_out_and_add_what_one_does(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    more = ("--skip-settled", 0.9, "--second-set-above", 0.3, "--max-steps", 8)
    folders = [tmp_path / "one", tmp_path / "two"]
    for ranks, folder in enumerate(folders, 1):
        command = distill(shared_teacher.url, tiny_directory, prompts, folder, *more)
        run_ranks(ranks, student_command, *command, log=tmp_path / f"said-{ranks}")
    one, two = ({*ids(at, "sets", SampledSet), *ids(at, "sets-1", SampledSet)} for at in folders)
    assert one <= two  # each process keeps a prompt of its own
    assert len(two - one) <= 4
    assert any(name.endswith("/2") for name in one)
    assert len([name for name in one if not name.endswith("/2")]) < 8 * 4
    memories = [lines(folders[1] / "rounds", name) for name in ("taught.jsonl", "taught-1.jsonl")]
    assert memories[0] == memories[1]


@pytest.mark.parametrize(("engine", "staleness"), [("DDP", 0), ("DDP", 1), ("FSDP2", 1), ("ZeRO-3", 0)])
def test_killed_ranks_end_as_if_undisturbed(
    tiny_directory: Path, prompts: Path, tmp_path: Path, staleness: int, engine: str
) -> None:
    start, sharding = ENGINES[engine]
    cut, whole, log = tmp_path / "cut", tmp_path / "whole", tmp_path / "said"
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        command = distill(teacher.url, tiny_directory, prompts, whole, "--staleness", staleness, *sharding)
        began = time.monotonic()
        run_ranks(2, start, *command, log=log)
        seconds = time.monotonic() - began
        command[command.index(str(whole))] = str(cut)
        chance = random.Random(staleness)
        for lost in ([0], [1], [0, 1], [1]):
            ranks = start_ranks(2, start, *command, log=log)
            if not list(cut.glob("checkpoint-*")):  # at least once after a checkpoint
                wait_for(cut / "checkpoint-2" / "trainer_state.json", ranks)
            else:  # a process that is lost before all have met is the launcher's affair
                before = starts(cut)
                while starts(cut) == before and ranks[0].is_alive():
                    time.sleep(0.01)
                ranks[0].join(seconds * chance.uniform(0, 0.5))
            for rank in lost:
                ranks[rank].kill()
            end_of(ranks, log)
            assert "Traceback" not in said(log, 0) + said(log, 1)
        run_ranks(2, start, *command, log=log)
    assert (cut / "checkpoint-5" / PART_OF[engine]).exists()
    assert [line["step"] for line in lines(cut, "shown.jsonl")] == [0, 0, STEPS, STEPS]
    assert lines(cut, "metrics.jsonl") == lines(whole, "metrics.jsonl")
    assert weights(cut) == weights(whole)
    assert [sorted(each) for each in sets_of_both(cut)] == [sorted(each) for each in sets_of_both(whole)]


def test_ctrl_c_to_one_rank_saves_both_and_a_rerun_continues(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "said"
    command = distill(shared_teacher.url, tiny_directory, prompts, out, "--save-steps", 1000, "--max-steps", 300)
    ranks = start_ranks(2, student_command, *command, log=log)
    wait_for(out / "rounds" / "000002", ranks)
    assert ranks[1].pid
    os.kill(ranks[1].pid, signal.SIGINT)
    assert end_of(ranks, log) == [130, 130]
    (checkpoint,) = out.glob("checkpoint-*")
    assert {"trainer_state.json", "rng_state_0.pth", "rng_state_1.pth"} <= {
        path.name for path in checkpoint.iterdir()
    }
    assert "Traceback" not in said(log, 0) + said(log, 1)
    steps = len(lines(out, "metrics.jsonl"))
    again = [*command, "--max-steps", str(steps + 2)]
    run_ranks(2, student_command, *again, log=log)
    assert len(lines(out, "metrics.jsonl")) == steps + 2


def test_a_dead_teacher_ends_both_ranks_with_a_checkpoint(
    tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "said"
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        how = ("--max-steps", 300, "--save-steps", 1000, "--patience", 1)
        ranks = start_ranks(2, student_command, *distill(teacher.url, tiny_directory, prompts, out, *how), log=log)
        wait_for(out / "rounds" / "000002", ranks)
        teacher.stop(signal.SIGKILL)
        assert end_of(ranks, log) == [1, 1]
    everything = said(log, 0) + said(log, 1)
    complaints = [line for line in everything.splitlines() if line.endswith("; start it, or check the address")]
    assert len(complaints) == 1
    assert teacher.url in complaints[0]
    assert "Traceback" not in everything
    assert len(list(out.glob("checkpoint-*/trainer_state.json"))) == 1


def wait_for(path: Path, ranks: list[BaseProcess]) -> None:
    while not path.exists():
        assert all(each.is_alive() for each in ranks)
        time.sleep(0.01)
