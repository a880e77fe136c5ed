"""Real ``pad-student`` processes that are killed, interrupted or out of room."""

import json
import random
import resource
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
import pytest
from safetensors.torch import load_file

from pad_student.storage import jsonl
from pad_student.storage.run_directory import newest_whole
from pad_wire import ScoredSet
from support.forkserver import start_forked_student
from support.processes import TeacherProcess, start_student, student, teacher_process


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(lines_of(12))
    return path


def lines_of(count: int) -> bytes:
    return b"".join(orjson.dumps({"id": f"p{k}", "prompt": f"say {k}"}) + b"\n" for k in range(count))


def distill(teacher: str, model: Path, prompts: Path, out: Path) -> list[Any]:
    return [
        *("distill", "--teacher", teacher, "--model", model, "--prompts", prompts, "--output-dir", out),
        *("--max-steps", 6, "--prompts-per-step", 3, "--max-response-tokens", 5, "--learning-rate", 1e-3),
        *("--save-steps", 2, "--use-cpu", "true", "--keep-rounds", "all"),
    ]


def weights(folder: Path) -> dict[str, Any]:
    return {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def samples_shown(folder: Path) -> dict[str, Any]:
    lines = map(json.loads, (folder / "shown.jsonl").read_text().splitlines())
    return {line["id"]: line["samples"] for line in lines}


def scored_ids(folder: Path) -> list[str]:
    paths = folder.glob("rounds/*/scored.jsonl")
    return sorted(each.id for path in paths for each in jsonl.read(path, ScoredSet))


def computed_rows(teacher: TeacherProcess) -> float:
    """Rows that the engine scored: not those that its cache knew, as what was on its way at a kill is asked again."""
    lines = teacher.http.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("pad_cache_misses_total "))


def seconds_of(run: BaseProcess, begun: Path) -> tuple[float, float]:
    """Wait for a run's end; seconds until ``begun`` existed, and from then."""
    start = time.monotonic()
    while run.is_alive() and not begun.exists():
        time.sleep(0.005)
    loaded = time.monotonic()
    run.join()
    assert run.exitcode == 0
    return loaded - start, time.monotonic() - loaded


def test_each_stage_works_alone_and_one_after_the_other(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    sets, scored, out = tmp_path / "sets.jsonl", tmp_path / "scored.jsonl", tmp_path / "out"
    stages = [
        ["sample", "--model", tiny_directory, "--prompts", prompts, "--out", sets, "--max-new-tokens", 5],
        ["score", "--teacher", shared_teacher.url, "--sets", sets, "--out", scored],
        ["train", "--scored", scored, "--model", tiny_directory, "--out", out, "--max-steps", 2, "--use-cpu", "true"],
    ]
    for stage in stages:
        ran = student(*stage)
        assert ran.returncode == 0, ran.stderr
    assert len(list(jsonl.read(scored, ScoredSet))) == 12
    assert weights(out) != weights(tiny_directory)


def test_a_dead_teacher_is_one_line_and_a_rerun_scores_the_rest(
    tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    sets, scored = tmp_path / "sets.jsonl", tmp_path / "scored.jsonl"
    student("sample", "--model", tiny_directory, "--prompts", prompts, "--out", sets, "--max-new-tokens", 5)
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        lines = sets.read_text().splitlines(keepends=True)
        (tmp_path / "half.jsonl").write_text("".join(lines[:5]))
        assert (
            student("score", "--teacher", teacher.url, "--sets", tmp_path / "half.jsonl", "--out", scored).returncode
            == 0
        )
        url = teacher.url
        teacher.stop(signal.SIGKILL)
        half = scored.read_text()
        ran = student("score", "--teacher", url, "--sets", sets, "--out", scored)
        assert ran.returncode == 1
        assert url in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr
        assert scored.read_text() == half
        port = url.rpartition(":")[2]
    with teacher_process(tiny_directory, tmp_path / "log2", "--port", port) as teacher:
        teacher.wait_until_ready()
        ran = student("score", "--teacher", teacher.url, "--sets", sets, "--out", scored)
        assert ran.returncode == 0, ran.stderr
        assert scored.read_text().startswith(half)
        ids = [each.id for each in jsonl.read(scored, ScoredSet)]
        assert sorted(ids) == sorted(f"p{k}" for k in range(12))


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_killed_run_ends_with_equal_weights_and_scores_once(
    tiny_directory: Path, prompts: Path, tmp_path: Path, staleness: int
) -> None:
    # No prompt twice: two requests at once, of two rounds, would each compute the rows that they share.
    prompts.write_bytes(lines_of(18 * 3))
    how = ["--max-steps", 18, "--staleness", staleness, "--sampling-batch-size", 2]
    log, cut, whole = tmp_path / "said", tmp_path / "cut", tmp_path / "whole"

    def start(teacher: TeacherProcess, out: Path) -> BaseProcess:
        return start_forked_student(*distill(teacher.url, tiny_directory, prompts, out), *how, log=log)

    start_forked_student("--help", log=log).join()  # imports what the next ones need
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        loading, working = seconds_of(start(teacher, tmp_path / "counted"), tmp_path / "counted" / "rounds")
        rows = computed_rows(teacher)
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:  # whose score cache is empty
        teacher.wait_until_ready()
        chance = random.Random(7 + staleness)
        for _ in range(10):
            process = start(teacher, cut)
            process.join(loading * chance.uniform(0.5, 1) + working * chance.uniform(0, 0.25))
            process.kill()
            process.join()
        seconds_of(start(teacher, cut), cut)
        assert computed_rows(teacher) == rows
        # The scores of other batches differ in their last digits: an undisturbed run is to get these.
        seconds_of(start(teacher, whole), whole)
        assert computed_rows(teacher) == rows
    assert losses(whole) == losses(cut)
    assert weights(whole) == weights(cut)
    assert samples_shown(whole) == samples_shown(cut)
    assert "Samples after" in (cut / "report.html").read_text()
    assert "Preference-Aligned" in (cut / "README.md").read_text()
    assert scored_ids(whole) == scored_ids(cut)
    assert len(scored_ids(cut)) == len(set(scored_ids(cut))) == 18 * 3


def test_a_checkpoint_without_room_leaves_the_one_before(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    log, whole, cut = tmp_path / "said", tmp_path / "whole", tmp_path / "cut"
    seconds_of(start_forked_student(*distill(shared_teacher.url, tiny_directory, prompts, whole), log=log), whole)
    arguments = distill(shared_teacher.url, tiny_directory, prompts, cut)
    process = start_forked_student(*arguments, log=log)
    while not (cut / "checkpoint-2" / "trainer_state.json").exists():
        assert process.is_alive()
        time.sleep(0.001)
    assert process.pid
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))  # bytes: rounds fit in, weights do not
    process.join()
    assert process.exitcode == 1
    assert log.read_text().splitlines()[-1].startswith("pad-student: no space left for a checkpoint in")
    assert newest_whole(cut) == cut / "checkpoint-2"
    seconds_of(start_forked_student(*arguments, log=log), cut)
    assert losses(whole) == losses(cut)
    assert weights(whole) == weights(cut)


def test_ctrl_c_ends_with_a_checkpoint_and_130_and_continues(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    command = distill(shared_teacher.url, tiny_directory, prompts, tmp_path / "out")
    process = start_student(*command, "--max-steps", 400, "--save-steps", 1000)
    while not (tmp_path / "out" / "rounds" / "000003").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "continues" in error.splitlines()[-1]
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 1


def test_a_run_refuses_other_settings_but_takes_more_steps(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    command = [*distill(shared_teacher.url, tiny_directory, prompts, tmp_path / "out"), "--max-steps", 2]
    assert student(*command).returncode == 0
    again = student(*command)
    assert (again.returncode, "already" in again.stderr.splitlines()[-1]) == (0, True)
    for changed in (["--loss", "simpo"], ["--alpha", 0.5], ["--seed", 3]):
        ran = student(*command, *changed)
        assert ran.returncode == 1
        assert changed[0].removeprefix("--") in ran.stderr.splitlines()[-1]
    longer = student(*command, "--max-steps", 3)
    assert longer.returncode == 0
    assert "begun to end after step 2, now after 3" in longer.stderr
    assert len(losses(tmp_path / "out")) == 3


def test_another_teacher_in_mid_run_stops_it_and_says_so(
    shared_teacher: TeacherProcess, tiny_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    sets, scored = tmp_path / "sets.jsonl", tmp_path / "scored.jsonl"
    student("sample", "--model", tiny_directory, "--prompts", prompts, "--out", sets, "--max-new-tokens", 5)
    (tmp_path / "half.jsonl").write_text("".join(sets.read_text().splitlines(keepends=True)[:5]))
    student("score", "--teacher", shared_teacher.url, "--sets", tmp_path / "half.jsonl", "--out", scored)
    scored.write_text(scored.read_text().replace('"fingerprint":"', '"fingerprint":"other-'))
    ran = student("score", "--teacher", shared_teacher.url, "--sets", sets, "--out", scored)
    assert ran.returncode == 1
    assert "changed" in ran.stderr.splitlines()[-1]
