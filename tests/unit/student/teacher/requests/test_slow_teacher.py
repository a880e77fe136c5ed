"""A teacher that is slow: requests are cut by their work and halved, and nothing is waited for without end."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from pad_student.commands import common
from pad_student.commands.settings import AuditSettings, DistillSettings, ScoreSettings, WinRateSettings
from pad_student.commands.settings_loader import load
from pad_student.teacher.client import Teacher, TeacherUnreachable
from pad_student.teacher.errors import TeacherSlow
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.requests.cutting import in_requests, work_of
from pad_wire import Limits, Response, SampledSet
from support.fake_teacher import LIMITS, FakeTeacherService, error
from support.teacher_fleet import Clock

URL = "http://teacher.test:8010"


def sampled(count: int, length: int = 3) -> list[SampledSet]:
    responses = [Response(text="a" * length), Response(text="b" * length)]
    return [SampledSet(id=f"s{k}", prompt=f"question {k}", responses=responses) for k in range(count)]


def slow(most: int, failure: Callable[[httpx.Request], httpx.Response]) -> Any:
    """A teacher that answers requests of so many sets in time, and no larger ones."""
    fake: Any = FakeTeacherService()
    fake.slow = 0
    answer = fake.answer

    def look(request: httpx.Request) -> httpx.Response:
        if request.content and len(json.loads(request.content)["sets"]) > most:
            fake.slow += 1
            return failure(request)
        return answer(request)

    fake.transport = httpx.MockTransport(look)
    return fake


def times_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow", request=request)


@pytest.mark.parametrize("failure", [times_out, error(504, "deadline_exceeded"), lambda _: httpx.Response(504)])
def test_a_request_that_was_too_slow_is_halved(failure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waited"))
    fake = slow(3, failure)
    with Teacher(URL, transport=fake.transport) as teacher:
        scored = [each.id for each in teacher.score_stream(sampled(64), workers=1)]
    assert scored == [f"s{k}" for k in range(64)]
    assert max(len(body["sets"]) for body in fake.bodies) <= 3
    assert fake.slow < 4 * (1 + 2 + 4)  # the work of later requests was less from the beginning


def test_a_teacher_that_starts_for_minutes_is_waited_for(clock: Clock) -> None:
    fake = FakeTeacherService(*[error(503, "not_ready", {"Retry-After": "2"})] * 250)
    with Teacher(URL, transport=fake.transport) as teacher:
        assert len(teacher.score(sampled(2))) == 2
    assert clock.slept == [2.0] * 250


def test_one_set_that_is_too_slow_is_tried_again(clock: Clock) -> None:
    fake = FakeTeacherService(times_out, times_out)
    with Teacher(URL, transport=fake.transport) as teacher:
        assert len(teacher.score(sampled(1))) == 1
        fake.faults = [times_out] * 100
        with pytest.raises(TeacherSlow, match="raise the timeout"):
            teacher.score(sampled(1))
    assert 570 < sum(clock.slept) < 630


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ScoreOptions(alpha=0), 300),
        (ScoreOptions(alpha=0, unconditional=True), 500),
        (ScoreOptions(orders="single"), 600),
        (ScoreOptions(orders="cyclic"), 900),
        (ScoreOptions(form="pairwise"), 900),
    ],
)
def test_work_counts_texts_and_questions_in_their_orders(options: ScoreOptions, expected: int) -> None:
    both = [Response(text="a" * 300), Response(text="ä" * 150)]
    assert work_of(SampledSet(id="s", prompt="p" * 300, responses=both), options) == expected


def test_requests_leave_room_in_the_services_queue() -> None:
    limits = Limits(**{**LIMITS, "max_queued_tokens": 8000, "max_sets": 64})
    requests = list(in_requests(sampled(64), limits, 64, lambda each: 300.0))
    assert {len(each) for each in requests} <= {3, 1}
    assert [each.id for request in requests for each in request] == [f"s{k}" for k in range(64)]


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (ScoreSettings, ["--sets", "a", "--out", "b"]),
        (DistillSettings, ["--model", "m", "--prompts", "p", "--output-dir", "o"]),
        (AuditSettings, []),
        (WinRateSettings, ["--model", "m", "--baseline", "b", "--out", "o"]),
    ],
)
def test_timeout_and_patience_reach_the_connection(
    command: Any, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, float] = {}
    monkeypatch.setattr(common, "Teacher", lambda *_, **how: given.update(how))
    monkeypatch.setenv("PAD_STUDENT_PATIENCE", "3600")
    common.connect(load(command, "pad-student", ["--teacher", URL, "--timeout", "900", *more]))
    assert (given["timeout"], given["patience"]) == (900, 3600)


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on loopback that answers each connection with ``answer`` until the client leaves."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                answer(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def drip(first: bytes, line: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(line)
            time.sleep(0.02)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        drip(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    ],
    ids=["headers", "interim replies", "body"],
)
def test_a_reply_that_drips_ends_with_timeout_and_patience(answer: Any) -> None:
    began = time.monotonic()
    with (
        server(answer) as url,
        Teacher(url, timeout=0.3, patience=0.8) as teacher,
        pytest.raises(TeacherUnreachable, match=r"no answer in 0\.3 s"),
    ):
        teacher.score(sampled(1))
    assert time.monotonic() - began < 10
