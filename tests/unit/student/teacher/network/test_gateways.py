"""What a gateway in front of the teacher answers is tried again or named; no text of a peer steers a terminal."""

import httpx
import pytest

from pad_student.teacher.client import Teacher, TeacherRefused
from pad_wire import Response, SampledSet
from support.fake_teacher import FakeTeacherService


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def sampled() -> list[SampledSet]:
    responses = [Response(text="yes"), Response(text="no")]
    return [SampledSet(id=name, prompt="which?", responses=responses) for name in ("a", "b")]


def client(fake: FakeTeacherService) -> Teacher:
    return Teacher("http://teacher.test:8010", transport=fake.transport)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 522, 524])
def test_a_gateways_passing_failure_is_tried_again(status, waits):
    fake = FakeTeacherService(lambda request: httpx.Response(status, text="<html>later</html>"))
    assert len(client(fake).score(sampled()[:1])) == 1
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (307, "it sends to https://teacher.lab/; give that address"),
        (308, "it sends to https://teacher.lab/"),
        (403, "forbids"),
        (407, "proxy wants a name"),
        (413, "larger than the gateway"),
    ],
)
def test_a_gateways_refusal_has_words_of_its_own(status, says):
    fake = FakeTeacherService(
        *[lambda _: httpx.Response(status, text="<html>", headers={"Location": "https://teacher.lab/"})] * 9
    )
    with pytest.raises(TeacherRefused, match=says):
        client(fake).score(sampled())
    assert len(fake.requests) == 1


def test_a_teachers_message_cannot_steer_the_terminal():
    detail = {"code": "invalid_request", "message": "\x1b]0;owned\x07\x1b[2J" + "x" * 10**6, "retryable": False}
    with pytest.raises(TeacherRefused) as caught:
        client(FakeTeacherService(lambda _: httpx.Response(422, json={"error": detail}))).score(sampled())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
