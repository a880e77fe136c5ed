"""A real service on vLLM, whose processes are killed: ``make test-vllm``."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.fakes import byte_tokenizer
from support.processes import TeacherProcess, teacher_process
from support.tiny import vllm_model

LARGE = {"sets": [{"prompt": "hi" * 100, "responses": [f"{k} " * 60 for k in range(8)]}] * 20}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer, model = byte_tokenizer(), vllm_model("llama")
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def descendants(pid: int) -> dict[int, str]:
    """Names of all processes that ``pid`` has started, directly or not."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (entry / "stat").read_text().rpartition(")")
            names[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ") or name
        except OSError:
            continue
        if rest.split()[0] != "Z":
            parents[int(entry.name)] = int(rest.split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: names[child] for child in found - {pid}}


def named(pid: int, name: str) -> int:
    return next(child for child, command in descendants(pid).items() if name in command)


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def not_ready(teacher: TeacherProcess) -> bool:
    try:
        return teacher.http.get("/v1/health/ready").status_code == 503
    except httpx.TransportError:  # it has stopped by now
        return True


@pytest.mark.parametrize("process", ["EngineCore", "Worker"])
def test_killing_vllm_is_503_then_not_ready_and_exit_1(process: str, directory: Path, tmp_path: Path) -> None:
    with teacher_process(directory, tmp_path / "log", engine="vllm") as teacher, ThreadPoolExecutor(2) as pool:
        teacher.wait_until_ready()
        started = descendants(teacher.process.pid)
        victim = named(teacher.process.pid, process)
        os.kill(victim, signal.SIGSTOP)  # so that the requests are still under way when it dies
        requests = [pool.submit(teacher.http.post, "/v1/score", json=LARGE) for _ in range(2)]
        time.sleep(1.0)  # tokenised, and in vLLM
        assert not any(request.done() for request in requests)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: not_ready(teacher), 1.0)
        for request in requests:
            reply = request.result(timeout=5)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_failed")
        assert time.monotonic() - killed < 2
        assert teacher.process.wait(30) == 1
        assert "\npad-teacher: EngineFailed: " in teacher.log.read_text()
        wait_until(lambda: not any(map(alive, started)), 10)


def test_the_death_of_an_idle_engine_is_noticed_within_a_second(directory: Path, tmp_path: Path) -> None:
    with teacher_process(directory, tmp_path / "log", engine="vllm") as teacher:
        teacher.wait_until_ready()
        os.kill(named(teacher.process.pid, "EngineCore"), signal.SIGKILL)
        wait_until(lambda: not_ready(teacher), 1.0)
        assert teacher.process.wait(30) == 1


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_no_process_of_vllm_outlives_the_service(
    how: signal.Signals, status: int, directory: Path, tmp_path: Path
) -> None:
    with teacher_process(directory, tmp_path / "log", engine="vllm") as teacher:
        teacher.wait_until_ready()
        assert teacher.http.post("/v1/score", json={"sets": LARGE["sets"][:2]}).status_code == 200
        started = descendants(teacher.process.pid)
        assert any("EngineCore" in name for name in started.values())
        assert teacher.stop(how) == status
        wait_until(lambda: not any(map(alive, started)), 10)


def test_stopping_while_vllm_starts_leaves_no_process_behind(directory: Path, tmp_path: Path) -> None:
    with teacher_process(directory, tmp_path / "log", engine="vllm") as teacher:
        wait_until(lambda: any("spawn_main" in name for name in descendants(teacher.process.pid).values()), 60)
        time.sleep(2)
        started = descendants(teacher.process.pid)
        assert teacher.stop() == 0
        wait_until(lambda: not any(map(alive, started)), 10)


def test_a_misspelt_argument_for_vllm_is_one_line_and_exit_1(directory: Path, tmp_path: Path) -> None:
    with teacher_process(directory, tmp_path / "log", "--vllm.tensor-paralel-size=2", engine="vllm") as teacher:
        assert teacher.process.wait(60) == 1
        assert "did you mean --vllm.tensor-parallel-size?" in teacher.log.read_text().splitlines()[-1]
