"""The log and the banner: what people and programs read, and messages that any client can cause at will."""

import json
import logging
import re
from pathlib import Path

import pytest
import structlog

from pad_teacher.runtime import logs
from pad_teacher.serve import process
from pad_teacher.serve.banner import banner
from pad_teacher.serve.preflight import cannot_listen
from pad_teacher.serve.process import announce
from pad_teacher.settings import ServeSettings, read_settings
from support.app import full_logs
from support.network import NEEDS_IPV6


def test_what_a_client_causes_at_will_is_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with full_logs():
        for number in range(5):
            logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
            logging.getLogger("asyncio").error("socket.accept() out of system resource\nsocket: %s", number)
            logging.getLogger("uvicorn.error").error("Exception in ASGI application\n")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events.count("Invalid HTTP request received.") == 1
    assert len([event for event in events if event.startswith("socket.accept()")]) == 1
    assert events.count("Exception in ASGI application\n") == 5


def test_a_terminal_gets_plain_lines_and_a_file_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for terminal in (True, False):
        monkeypatch.setattr("pad_teacher.runtime.logs.is_for_people", lambda terminal=terminal: terminal)
        logs.configure("info")
        try:
            raise ValueError("why")
        except ValueError as error:
            structlog.get_logger().error("failed", reason="so", nothing=None, exc_info=error)
        said = capsys.readouterr().err
        assert ("reason=so" in said, '"reason": "so"' in said) == (terminal, not terminal)
        assert "ValueError: why" in said
        assert "nothing" not in said


def test_the_banner_says_where_to_look_and_how_to_make_a_key(tmp_path: Path) -> None:
    open_to_all = banner(ServeSettings.model_validate({"model": "m"}), "http://127.0.0.1:8010")
    assert "http://127.0.0.1:8010/docs" in open_to_all
    assert "none needed on this machine" in open_to_all
    with_keys = banner(ServeSettings.model_validate({"model": "m", "keys": tmp_path}), "https://box:1")
    assert f"key add NAME --keys {tmp_path}" in with_keys
    assert max(map(len, open_to_all.splitlines())) <= 80


@pytest.mark.parametrize(("flags", "shown"), [([], True), (["--verbose"], True), (["--quiet"], False)])
def test_a_quiet_service_shows_no_banner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], shown: bool
) -> None:
    monkeypatch.setattr("pad_teacher.runtime.logs.is_for_people", lambda: True)
    announce(read_settings(["m", *flags]), "http://[::1]:8010")
    assert ("http://[::1]:8010/docs" in capsys.readouterr().err) == shown


@NEEDS_IPV6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_stands_in_brackets(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(process, "announce", lambda _, url: said.append(url))
    monkeypatch.setattr(process, "run", lambda *_: None)
    monkeypatch.setattr(process.logs, "configure", lambda _: None)
    monkeypatch.setattr(process.sys, "setswitchinterval", lambda _: None)
    assert process.serve(read_settings(["m", "--host", host, "--port", "0"])) == 0
    assert re.fullmatch(r"http://\[::1\]:[0-9]+", said[0])
    taken = read_settings(["m", "--host", host])
    assert "cannot listen on [::1]:8010: in use" in str(cannot_listen(taken, OSError(98, "in use")))
