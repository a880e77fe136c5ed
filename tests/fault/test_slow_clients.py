"""Clients of a real service that say, send or take nothing: each has its time, and none stands in another's way."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from pad_teacher.admission.keys import add_key
from support.processes import TeacherProcess, teacher_process

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}
LARGEST = 2 * 2**20
LIMITS = (
    *("--headers-seconds", "5", "--body-idle-seconds", "3", "--body-seconds", "6", "--reply-seconds", "3"),
    *("--max-connections", "64"),
)
PATIENCE = 60  # seconds until a test gives up: a slow machine is late


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The file, and two keys; the greedy one may do almost nothing."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    greedy = add_key(file, "greedy", weight=0.01, tokens_per_minute=1)
    return {"file": str(file), "greedy": greedy, "polite": add_key(file, "polite")}


@pytest.fixture(scope="module")
def teacher(
    tiny_directory: Path, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TeacherProcess]:
    log = tmp_path_factory.mktemp("teacher") / "log"
    with teacher_process(tiny_directory, log, "--keys", keys["file"], *LIMITS) as teacher:
        teacher.wait_until_ready()
        yield teacher


@contextmanager
def connected(teacher: TeacherProcess, count: int = 1) -> Iterator[list[socket.socket]]:
    address = urlsplit(teacher.url)
    with ExitStack() as stack:
        made = [socket.create_connection((address.hostname, address.port), PATIENCE) for _ in range(count)]
        yield [stack.enter_context(each) for each in made]


def head(key: str, length: str = f"Content-Length: {LARGEST}", more: str = "") -> bytes:
    lines = ("POST /v1/likelihood HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", length)
    return "\r\n".join([*lines, *([more] if more else []), "", ""]).encode()


def ends_while_it_drips(connection: socket.socket, part: bytes) -> bool:
    """Whether the service closes the connection although something comes again and again."""
    began = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - began < PATIENCE:
            connection.sendall(part)
            time.sleep(0.2)
        return False
    return True


def rest(connection: socket.socket) -> bytes:
    """What still comes, until the service closes the connection."""
    got = b""
    try:
        while part := connection.recv(2**16):
            got += part
    except ConnectionResetError:
        pass
    return got


def polite(teacher: TeacherProcess, keys: dict[str, str], number: int) -> int:
    own = {"sets": [{"prompt": f"hi {number}", "responses": ["yes", "no"]}]}
    headers = {"Authorization": f"Bearer {keys['polite']}"}
    return httpx.post(f"{teacher.url}/v1/likelihood", json=own, headers=headers, timeout=PATIENCE).status_code


@pytest.mark.parametrize("sent", [0, 1, LARGEST - 1])
def test_slow_bodies_of_one_key_lock_nobody_out(teacher: TeacherProcess, keys: dict[str, str], sent: int) -> None:
    with connected(teacher, 20) as slow:
        for connection in slow:
            connection.sendall(head(keys["greedy"]))
        for connection in slow[:18]:
            try:
                connection.sendall(b" " * sent)
            except ConnectionError:  # it was refused before: its key holds too much
                assert sent > 1
        assert [polite(teacher, keys, number) for number in range(5)] == [200] * 5
        answers = [rest(connection) for connection in slow]
    assert {answer[9:12] for answer in answers if answer} <= {b"408", b"429"}
    assert b"408" in {answer[9:12] for answer in answers}


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_stops_gets_408_and_the_end(teacher: TeacherProcess, keys: dict[str, str], length: str) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(head(keys["polite"], length) + b"1\r\n{")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer
    assert b"connection: close" in answer.lower()


def test_a_body_that_drips_has_an_end(teacher: TeacherProcess, keys: dict[str, str]) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(head(keys["polite"]))
        assert ends_while_it_drips(connection, b" ")


def test_a_deadline_counts_while_the_body_comes(teacher: TeacherProcess, keys: dict[str, str]) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(head(keys["polite"], more="X-Deadline-Ms: 500") + b" ")
        answer = connection.recv(2**16)
    assert answer.startswith(b"HTTP/1.1 504 ")


def test_silent_connections_are_closed_and_give_way(teacher: TeacherProcess, keys: dict[str, str]) -> None:
    lines = teacher.log.read_text().count("\n")
    with connected(teacher, 300) as silent:
        for number in range(5):
            assert httpx.get(f"{teacher.url}/v1/health/live", timeout=PATIENCE).status_code == 200
            assert polite(teacher, keys, number) == 200
        assert {rest(connection) for connection in silent} == {b""}
    assert teacher.log.read_text().count("\n") - lines < 30


def test_headers_that_drip_are_not_waited_for(teacher: TeacherProcess) -> None:
    with connected(teacher, 2) as [half, connection]:
        half.sendall(b"GET /v1/health/live HTTP/1.1\r\nHost: ")
        connection.sendall(b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n")
        assert ends_while_it_drips(connection, b"X: y\r\n")
        assert rest(half).startswith(b"HTTP/1.1 408 ")


def test_a_second_request_has_no_longer_for_its_headers(teacher: TeacherProcess) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/")
        assert rest(connection).startswith(b"HTTP/1.1 200 ")


def test_a_reply_that_is_not_taken_ends_its_connection(teacher: TeacherProcess, keys: dict[str, str]) -> None:
    many = 2000
    asked = (
        f"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {keys['polite']}\r\n\r\n".encode()
    )
    with connected(teacher) as [connection]:
        connection.sendall(asked)
        one = 0
        while one < 1000:  # the head of the reply may come by itself
            one += len(connection.recv(2**16))
        connection.settimeout(1)
        with suppress(OSError):  # the service reads no more: it waits for the replies to be taken
            connection.sendall(asked * many)
        began, gone = time.monotonic(), False
        while not gone and time.monotonic() - began < PATIENCE:
            time.sleep(0.5)
            try:
                connection.send(b"X")
            except TimeoutError:
                continue
            except ConnectionError:
                gone = True
        assert gone


def test_two_lengths_are_answered_once_and_closed(teacher: TeacherProcess, keys: dict[str, str]) -> None:
    smuggled = b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(teacher) as [connection]:
        lengths = "Content-Length: 5\r\nTransfer-Encoding: chunked"
        connection.sendall(head(keys["polite"], lengths) + b"0\r\n\r\n" + smuggled)
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_few_open_files_leave_health_and_the_log_alone(tiny_directory: Path, tmp_path: Path) -> None:
    with teacher_process(tiny_directory, tmp_path / "log", open_files=256) as teacher:
        teacher.wait_until_ready()
        assert '"connections": ' in teacher.log.read_text()  # it says that fewer fit
        with connected(teacher, 500):
            for _ in range(5):
                assert httpx.get(f"{teacher.url}/v1/health/live", timeout=PATIENCE).status_code == 200
            # On a new connection: an idle one that is kept from before gives way to the silent ones.
            assert httpx.post(f"{teacher.url}/v1/likelihood", json=ONE, timeout=PATIENCE).status_code == 200
        assert teacher.log.read_text().count("\n") < 100


def test_silent_tls_handshakes_are_closed_and_give_way(tiny_directory: Path, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    files: dict[str, Any] = {"certificate": issued.cert_chain_pems[0], "key": issued.private_key_pem}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.bytes())
    options = ("--tls-certificate", str(tmp_path / "certificate"), "--tls-key", str(tmp_path / "key"), *LIMITS)
    with teacher_process(tiny_directory, tmp_path / "log", *options, trusted=False) as teacher:
        teacher.wait_until_ready()
        with connected(teacher, 200) as silent:
            live = httpx.get(f"{teacher.url}/v1/health/live", verify=False, timeout=PATIENCE)
            assert live.status_code == 200
            assert {rest(connection) for connection in silent} == {b""}


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nLong: " + b"x" * 2**17,
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_the_one_shape_of_errors(teacher: TeacherProcess, sent: bytes) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(sent)
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert head.lower().count(b"connection: close") == 1
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_headers_that_stop_get_the_one_shape_of_errors(teacher: TeacherProcess) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert head.lower().count(b"connection: close") == 1
    assert json.loads(body)["error"]["code"] == "request_timeout"


def test_a_body_that_breaks_off_as_no_http_ends_alone(teacher: TeacherProcess, keys: dict[str, str]) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(head(keys["polite"], "Transfer-Encoding: chunked") + b"no length\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400 ")
    assert polite(teacher, keys, 99) == 200


def test_a_refused_body_that_breaks_off_gets_one_reply(teacher: TeacherProcess) -> None:
    with connected(teacher) as [connection]:
        connection.sendall(head("unknown", "Transfer-Encoding: chunked"))
        answer = connection.recv(2**16)
        connection.sendall(b"no length\r\n")
        answer += rest(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.count(b"HTTP/1.1 ") == 1
