"""A real ``pad-teacher`` process with hostile bodies, hang-ups and signals."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from safetensors.torch import load_file, save_file

from support.processes import ENVIRONMENT, TeacherProcess, teacher_process

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}


def test_a_50_mb_body_is_refused_and_leaves_no_trace_in_memory(shared_teacher: TeacherProcess) -> None:
    shared_teacher.http.post("/v1/score", json=ONE)
    before = shared_teacher.memory_bytes()
    for _ in range(3):
        assert shared_teacher.http.post("/v1/score", content=b"x" * 50_000_000).status_code == 413
    assert shared_teacher.memory_bytes() - before < 20_000_000
    assert shared_teacher.http.post("/v1/score", json=ONE).status_code == 200


def test_memory_does_not_grow_with_the_lengths_scored(shared_teacher: TeacherProcess) -> None:
    def score(length: int) -> None:
        sets = [{"prompt": "p" * length, "responses": ["yes", "no"]}]
        assert shared_teacher.http.post("/v1/likelihood", json={"sets": sets}).status_code == 200

    for length in range(1, 41):
        score(length)
    before = shared_teacher.memory_bytes()
    for length in range(41, 161):
        score(length)
    assert shared_teacher.memory_bytes() - before < 60 * 2**20


def test_a_30_mb_header_is_refused(shared_teacher: TeacherProcess) -> None:
    address = urlsplit(shared_teacher.url)
    before = shared_teacher.memory_bytes()
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: ")
        try:
            for _ in range(30):
                connection.sendall(b"y" * 1_000_000)
            answer = connection.recv(1000)
        except OSError:
            answer = b""
    assert b" 200 " not in answer
    assert shared_teacher.memory_bytes() - before < 10_000_000
    assert shared_teacher.http.get("/v1/models").status_code == 200


def test_half_a_request_and_a_hang_up_leave_the_service_alone(shared_teacher: TeacherProcess) -> None:
    address = urlsplit(shared_teacher.url)
    for sent in (
        b"",
        b"POST /v1/score HTTP/1.1\r\n",
        b"POST /v1/score HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
        b"\x00",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(sent)
    assert shared_teacher.http.post("/v1/score", json=ONE).status_code == 200


def test_sigterm_answers_accepted_requests_and_exits_0(tiny_directory: Path, tmp_path: Path) -> None:
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        sets = [{"prompt": f"hi {k}", "responses": ["a" * 40, "b" * 40]} for k in range(200)]
        bodies = [{"sets": sets[k::4]} for k in range(4)]
        with ThreadPoolExecutor(4) as pool:
            requests = [pool.submit(teacher.http.post, "/v1/score", json=body) for body in bodies]
            while '"POST"' not in teacher.log.read_text() and not any(r.done() for r in requests):
                pass
            status = teacher.stop(signal.SIGTERM)
            answers = [request.result().status_code for request in requests if not request.exception()]
        assert status == 0
        assert 200 in answers
        assert set(answers) <= {200, 503}


def test_what_was_scored_before_a_kill_is_known_after_a_restart(tiny_directory: Path, tmp_path: Path) -> None:
    sets = [{"prompt": f"hi {k}", "responses": ["a" * 40, "b" * 40]} for k in range(20)]
    data = ("--data", str(tmp_path / "data"))
    with teacher_process(tiny_directory, tmp_path / "log", *data) as teacher:
        teacher.wait_until_ready()
        before = teacher.http.post("/v1/score", json={"sets": sets})
        again = teacher.http.post("/v1/score", json={"sets": sets})  # read after what the first one left was written
        teacher.stop(signal.SIGKILL)
    with teacher_process(tiny_directory, tmp_path / "log", *data) as teacher:
        teacher.wait_until_ready()
        after = teacher.http.post("/v1/score", json={"sets": sets})
        assert before.status_code == 200
        assert before.content == again.content == after.content
        metrics = teacher.http.get("/metrics").text
        assert "pad_cache_misses_total 0.0" in metrics
        assert "pad_batch_seconds_count 0.0" in metrics


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_loading_exits_0(tiny_directory: Path, tmp_path: Path, how: signal.Signals) -> None:
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        assert teacher.stop(how) == 0


def test_non_finite_weights_never_become_ready_and_exit_1(tiny_directory: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_directory, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] *= float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with teacher_process(broken, tmp_path / "log") as teacher:
        assert teacher.process.wait(60) == 1
        assert "GoldenMismatch" in teacher.log.read_text()
        assert '"ready"' not in teacher.log.read_text()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--model", "no/such/model"], "no/such/model: no such model directory"),
        (["--model", "."], "it has no config.json"),
        (["--model", "no-such-model-anywhere"], "HF_HUB_OFFLINE"),
        (["--reference", "no/such/model"], "no/such/model: no such model directory"),
        (["--reference", "."], "it has no config.json"),
        (["--reference", "no-such-model-anywhere"], "HF_HUB_OFFLINE"),
        (["--device", "gpu"], "--device gpu is no device"),
        (["--keys", "no-such-file"], "no-such-file"),
        (["--question", "no-such-file"], "--question no-such-file: No such file"),
    ],
)
def test_wrong_input_is_one_line_before_torch_is_imported(
    tiny_directory: Path, flags: list[str], complaint: str
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pad_teacher", "serve", "--model", str(tiny_directory)]
    ran = subprocess.run([*command, *flags], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    said = [line for line in ran.stderr.splitlines() if not line.startswith("import time:")]
    assert (ran.returncode, len(said)) == (1, 1)
    assert complaint in said[0]
    assert not any(line.split()[-1] == "torch" for line in ran.stderr.splitlines())


def test_a_port_that_is_taken_is_one_line_and_exit_1(shared_teacher: TeacherProcess, tiny_directory: Path) -> None:
    port = str(urlsplit(shared_teacher.url).port)
    command = [sys.executable, "-m", "pad_teacher", "serve", "--model", str(tiny_directory), "--port", port]
    ran = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"pad-teacher: cannot listen on 127.0.0.1:{port}")
    assert "Traceback" not in ran.stderr


def test_the_log_names_the_phases_of_the_start(shared_teacher: TeacherProcess) -> None:
    entries = [json.loads(line) for line in shared_teacher.log.read_text().splitlines()]
    phases = [(each["phase"], each.get("done")) for each in entries if each["event"] == "starting"]
    assert phases == [("weights", None), ("memory", None), *(("golden score", f"{k}/5") for k in range(1, 6))]


def test_every_line_of_the_log_is_json(shared_teacher: TeacherProcess) -> None:
    shared_teacher.http.get("/v1/models", headers={"X-Request-Id": "a\tb", "X-Job-Id": '"quoted"'})
    entries = [json.loads(line) for line in shared_teacher.log.read_text().splitlines()]
    assert any(entry.get("route") == "/v1/models" for entry in entries)


def test_weights_truncated_in_place_end_no_service(tiny_directory: Path, tmp_path: Path) -> None:
    served = shutil.copytree(tiny_directory, tmp_path / "served")
    with teacher_process(served, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        with (served / "model.safetensors").open("r+b") as file:
            file.truncate(0)
        assert teacher.http.post("/v1/likelihood", json=ONE).status_code == 200
        assert teacher.stop() == 0
