"""A service that drains: health, new work, the last requests, a second signal; against a real process."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.processes import TeacherProcess, teacher_process
from support.waiting import wait_until

PATIENCE = 60  # seconds, on a machine that has much else to do
ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}
HALF = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: half\r\nContent-Length: 99\r\n\r\n{"


@pytest.fixture(autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Under nohup the tests, and the services that they start, would ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def in_flight(teacher: TeacherProcess, requests: int) -> bool:
    return f"pad_requests_in_flight {requests + 1}.0" in teacher.http.get("/metrics").text  # one asks for this


def wait_until_draining(teacher: TeacherProcess) -> None:
    wait_until(lambda: teacher.http.get("/v1/health/ready").status_code == 503, PATIENCE)


@contextmanager
def half_sent(teacher: TeacherProcess) -> Iterator[socket.socket]:
    """A request under way that ends only with the drain."""
    address = urlsplit(teacher.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(HALF)
        wait_until(lambda: in_flight(teacher, 1), PATIENCE)
        yield connection


def lines_of(teacher: TeacherProcess) -> list[dict[str, Any]]:
    text = teacher.log.read_text()
    assert "Traceback" not in text
    assert "Exception in ASGI" not in text
    return [json.loads(line) for line in text.splitlines()]


def is_refused_once(teacher: TeacherProcess, connection: socket.socket) -> None:
    assert connection.recv(1000).startswith(b"HTTP/1.1 503")
    (line,) = [each for each in lines_of(teacher) if each.get("request_id") == "half"]
    assert (line["status"], line["error"]) == (503, "not_ready")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_draining_service_answers_health_to_the_end(
    tiny_directory: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with teacher_process(tiny_directory, tmp_path / "log", "--drain-seconds", "300") as teacher:
        teacher.wait_until_ready()
        with half_sent(teacher):
            teacher.process.send_signal(how)
            wait_until_draining(teacher)
            live = teacher.http.get("/v1/health/live")
            assert (live.status_code, live.headers["Connection"]) == (200, "close")
            assert teacher.http.get("/v1/health/ready").json()["status"] == "draining"
            refused = teacher.http.post("/v1/score", json=ONE)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert teacher.process.wait(PATIENCE) == 0, "the last request has left"


def test_requests_left_when_the_drain_is_over_are_refused_once(tiny_directory: Path, tmp_path: Path) -> None:
    with teacher_process(tiny_directory, tmp_path / "log", "--drain-seconds", "1") as teacher:
        teacher.wait_until_ready()
        with half_sent(teacher) as connection:
            teacher.process.send_signal(signal.SIGTERM)
            assert teacher.process.wait(PATIENCE) == 0
            is_refused_once(teacher, connection)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_ends_the_drain_with_status_0(
    tiny_directory: Path, tmp_path: Path, second: signal.Signals
) -> None:
    with teacher_process(tiny_directory, tmp_path / "log", "--drain-seconds", "300") as teacher:
        teacher.wait_until_ready()
        with half_sent(teacher) as connection:
            teacher.process.send_signal(signal.SIGTERM)
            wait_until_draining(teacher)
            assert teacher.stop(second) == 0
            is_refused_once(teacher, connection)


def test_a_second_signal_waits_for_no_computation(tiny_directory: Path, tmp_path: Path) -> None:
    """Requests under way are refused, logged and counted; the drain alone would wait for minutes."""
    with (
        teacher_process(tiny_directory, tmp_path / "log", "--drain-seconds", "300") as teacher,
        ThreadPoolExecutor(4) as pool,
    ):
        teacher.wait_until_ready()
        sets = [{"prompt": f"hi {k} " * 20, "responses": ["a" * 90, "b" * 90]} for k in range(1000)]
        asked = [pool.submit(teacher.http.post, "/v1/score", json={"sets": sets}) for _ in range(4)]
        wait_until(lambda: in_flight(teacher, 4), PATIENCE)
        teacher.process.send_signal(signal.SIGTERM)
        wait_until_draining(teacher)
        assert teacher.stop(signal.SIGTERM) == 0
        assert 503 in {each.result().status_code for each in asked} <= {200, 503}
        ended = [line["status"] for line in lines_of(teacher) if line.get("route") == "/v1/score"]
        assert sorted(ended) == sorted(each.result().status_code for each in asked)


def test_under_nohup_a_hangup_changes_nothing(tiny_directory: Path, tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; the service inherits it
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        state = Path(f"/proc/{teacher.process.pid}/status").read_text()
        ignored = int(state.partition("SigIgn:")[2].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1, "the signal is thrown away before the process could see it"
        teacher.process.send_signal(signal.SIGHUP)
        assert teacher.http.post("/v1/score", json=ONE).status_code == 200
        assert teacher.stop(signal.SIGTERM) == 0
