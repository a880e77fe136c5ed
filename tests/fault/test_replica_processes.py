"""Two real services of one client: one is killed, comes back, or turns out to be another teacher."""

import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pad_student.storage import jsonl
from pad_student.teacher.client import Teacher, TeachersDiffer
from pad_wire import Response, SampledSet, ScoredSet
from support.processes import TeacherProcess, start_student, student, teacher_process

PATIENCE = 60.0  # seconds for a service to start or a run to move on
COUNT = 600


def sampled(number: int) -> SampledSet:
    responses = [Response(text="a" * 40), Response(text="b")]
    return SampledSet(id=f"s{number}", prompt=f"say {number}", responses=responses)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    path = tmp_path / "sets.jsonl"
    path.write_text("".join(sampled(k).model_dump_json(exclude_none=True) + "\n" for k in range(COUNT)))
    return path


@pytest.fixture
def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def scored_something(teacher: TeacherProcess) -> bool:
    return '"/v1/score"' in teacher.log.read_text()


def until(happened: Iterator[bool]) -> Iterator[SampledSet]:
    """Sets without end, until what is waited for has happened."""
    end = time.monotonic() + PATIENCE
    for number, done in enumerate(happened):
        assert time.monotonic() < end
        if done:
            return
        time.sleep(0.01)  # leaves the starting service some of the machine
        yield sampled(number)


def test_a_replica_killed_in_mid_run_loses_nothing_and_rejoins(
    shared_teacher: TeacherProcess, tiny_directory: Path, sets: Path, tmp_path: Path, port: str
) -> None:
    out, url = tmp_path / "scored.jsonl", f"http://127.0.0.1:{port}"
    with teacher_process(tiny_directory, tmp_path / "log", "--port", port) as other:
        other.wait_until_ready()
        run = start_student("score", "--teacher", f"{shared_teacher.url},{url}", "--sets", sets, "--out", out)
        while not (out.exists() and out.stat().st_size and scored_something(other)):
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        other.stop(signal.SIGKILL)
        held = len(out.read_text().splitlines())
        _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, said
    assert 0 < held < COUNT
    assert [each.id for each in jsonl.read(out, ScoredSet)] == [f"s{k}" for k in range(COUNT)]
    assert [url in line for line in said.splitlines() if "left out" in line] == [True]

    with Teacher([shared_teacher.url, url]) as teacher:
        teacher.model()
        with teacher_process(tiny_directory, tmp_path / "log2", "--port", port) as other:
            stream = teacher.score_stream(until(iter(lambda: scored_something(other), None)))
            ids = [each.id for each in stream]
        assert ids == [f"s{k}" for k in range(len(ids))]


def test_a_replica_with_other_weights_is_always_refused(
    shared_teacher: TeacherProcess, tiny_directory: Path, sets: Path, tmp_path: Path, port: str
) -> None:
    changed, url = shutil.copytree(tiny_directory, tmp_path / "changed"), f"http://127.0.0.1:{port}"
    weights = load_file(changed / "model.safetensors")
    weights["model.norm.weight"] *= 1.5
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    with Teacher([shared_teacher.url, url]) as teacher:
        teacher.model()
        with teacher_process(changed, tmp_path / "log", "--port", port) as other:
            with pytest.raises(
                TeachersDiffer, match=f"the teacher at {url} is .*, but the one at {shared_teacher.url}"
            ):
                list(teacher.score_stream(until(iter(lambda: False, None))))
            assert not scored_something(other)
            ran = student(
                *("score", "--teacher", f"{shared_teacher.url},{url}"),
                *("--sets", sets, "--out", tmp_path / "scored.jsonl"),
            )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"pad-student: the teacher at {url} is ")
    assert shared_teacher.url in ran.stderr.splitlines()[-1]
