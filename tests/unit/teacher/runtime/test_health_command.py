"""``pad-teacher health``: exit status and words, for services by HTTP and by HTTPS."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from pad_teacher.cli import main
from support.network import NEEDS_IPV6


class Health(BaseHTTPRequestHandler):
    answer = 200, b""

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.send_header("Location", "/v1/health/live")
        self.end_headers()
        self.wfile.write(body if status != 302 or self.path != "/v1/health/live" else READY)

    def log_message(self, *_: object) -> None:
        pass


class Server(HTTPServer):
    """It listens at an address of either kind."""

    def __init__(self, host: str, handler: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), handler)


READY = b'{"status": "ready"}'


@contextmanager
def service(
    status: int = 200, body: bytes = READY, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[int]:
    server = Server(host, type("Handler", (Health,), {"answer": (status, body)}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_ready_service_is_healthy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with service() as port:
        monkeypatch.setenv("PAD_TEACHER_PORT", str(port))
        assert main(["health"]) == 0
        assert main(["health", "--url", f"http://127.0.0.1:{port}/"]) == 0
    assert capsys.readouterr().out == "ready\nready\n"


def test_a_starting_service_is_not_healthy_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with service(503, b'{"status": "starting", "reason": "loading the model"}') as port:
        assert main(["health", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err.endswith(": starting: loading the model\n")


@pytest.mark.parametrize("told", [True, False])
def test_a_service_with_a_certificate_is_asked_by_https(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("box.lab").configure_cert(context)
    with service(tls=context) as port:
        monkeypatch.setenv("PAD_TEACHER_PORT", str(port))
        if told:
            monkeypatch.setenv("PAD_TEACHER_TLS_CERTIFICATE", str(tmp_path))
        assert main(["health"]) == 0


@pytest.mark.parametrize("status", [200, 302, 404, 503])
@pytest.mark.parametrize(
    "body", [b"", b"<html>\n</html>", b"[]", b"3", b"{}", b'{"status": 5,\n"reason": "a\\nb"}', b"\xff", b"[" * 9999]
)
def test_a_reply_of_another_service_is_one_line(capsys: pytest.CaptureFixture[str], status: int, body: bytes) -> None:
    """Also one that is moved elsewhere, where a service is ready."""
    with service(status, body) as port:
        assert main(["health", "--url", f"http://127.0.0.1:{port}"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"pad-teacher: http://127.0.0.1:{port}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("given", [["--url"], []])
def test_no_proxy_is_asked_about_this_machine(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with service() as port:
        monkeypatch.setenv("PAD_TEACHER_PORT", str(port))
        assert main(["health", *given, *[f"http://localhost:{port}" for _ in given]]) == 0


@pytest.mark.parametrize(
    ("given", "listens"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        *(pytest.param(host, "::1", marks=NEEDS_IPV6) for host in ("::", "::1", "[::1]")),
    ],
)
def test_the_configured_host_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, listens: str
) -> None:
    """By a variable, or by the file that a variable names."""
    with service(host=listens) as port:
        monkeypatch.setenv("PAD_TEACHER_PORT", str(port))
        monkeypatch.setenv("PAD_TEACHER_HOST", given)
        assert main(["health"]) == 0
        for name in ("HOST", "PORT"):
            monkeypatch.delenv(f"PAD_TEACHER_{name}")
        (tmp_path / "t.yaml").write_text(f"model: m\nhost: '{given}'\nport: {port}\n")
        monkeypatch.setenv("PAD_TEACHER_CONFIG", str(tmp_path / "t.yaml"))
        assert main(["health"]) == 0
        monkeypatch.setenv("PAD_TEACHER_PORT", "1")
        assert main(["health"]) == 1


def test_a_file_of_settings_that_cannot_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAD_TEACHER_CONFIG", "nowhere.yaml")
    assert main(["health"]) == 1
    assert "PAD_TEACHER_CONFIG" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:none", "file:///etc/passwd"])
def test_no_answer_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--url", url]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("pad-teacher: ")
    assert said.err.count("\n") == 1
