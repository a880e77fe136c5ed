"""A real ``pad-student`` whose teacher says nothing to the end, drips, or sends what no terminal should get."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.processes import student

SET = '{"id":"0","prompt":"Why?","responses":[{"text":"so","finished":true},{"text":"because","finished":true}]}\n'
Talk = Callable[[socket.socket], None]


@contextmanager
def server(talk: Talk) -> Iterator[str]:
    """The address of a server that reads a request's beginning on each connection, and then talks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(2**16)
                talk(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def dripping(start: bytes, again: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(6000):  # ten minutes: the command would be killed after five
            connection.sendall(again)
            time.sleep(0.1)

    return talk


NEVER_ENDING = {
    "nothing": dripping(b"", b""),
    "headers": dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one header": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "1xx": dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
    "chunks": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("name", NEVER_ENDING)
def test_a_reply_that_never_ends_has_its_time(tmp_path: Path, name: str) -> None:
    (tmp_path / "sets.jsonl").write_text(SET)
    with server(NEVER_ENDING[name]) as url:
        ran = student(
            *("score", "--teacher", url, "--timeout", 2, "--patience", 4),
            *("--sets", tmp_path / "sets.jsonl", "--out", tmp_path / "scored.jsonl"),
        )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("pad-student: ")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("said", [b"\x1b]0;owned\x07\x1b[2J", b"\xc2\x9b2J", b"a\rb\x08\x00", b"x" * 10**6])
def test_a_terminal_gets_no_control_characters(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "sets.jsonl").write_text(SET)
    text = said.decode().encode("unicode_escape").replace(b"\\x", b"\\u00")
    body = b'{"error":{"code":"invalid_request","message":"' + text + b'","retryable":false}}'
    head = b"HTTP/1.1 422 X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"

    def talk(connection: socket.socket) -> None:
        connection.sendall(head % len(body) + body)

    with server(talk) as url:
        ran = student(
            *("score", "--teacher", url, "--timeout", 5, "--patience", 5),
            *("--sets", tmp_path / "sets.jsonl", "--out", tmp_path / "scored.jsonl"),
        )
    assert ran.returncode == 1
    assert all(character.isprintable() or character == "\n" for character in ran.stderr)
    assert max(map(len, ran.stderr.splitlines())) < 2000
