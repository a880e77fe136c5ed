"""Two replicas of one teacher over a fake HTTP, under a clock that moves where the client sleeps."""

from dataclasses import dataclass, field

import httpx
import pytest

from pad_student.teacher.client import Teacher
from pad_wire import Response, SampledSet
from support.fake_teacher import FakeTeacherService, broken

A, B = "http://a.test:8010", "http://b.test:8010"
DEAD = broken(httpx.ConnectError)


@dataclass
class Clock:
    """Time passes where the client sleeps, and a little with each request."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Clock":
        monkeypatch.setattr("time.sleep", self.sleep)
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        return self


class Fleet:
    """Two fake replicas, reached by one transport."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.a, self.b = FakeTeacherService(), FakeTeacherService()
        self.clock = clock
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.clock:
            self.clock.now += 0.5
        fake = self.a if request.url.host == "a.test" else self.b
        return fake.answer(request)

    def client(self, **options) -> Teacher:
        return Teacher([A, B], transport=self.transport, **options)

    def ids(self) -> list[str]:
        return [each["id"] for fake in (self.a, self.b) for body in fake.bodies for each in body["sets"]]


def sampled(count: int) -> list[SampledSet]:
    return [
        SampledSet(id=f"s{i}", prompt="?", responses=[Response(text="yes"), Response(text="no")])
        for i in range(count)
    ]


def scored_ids(teacher: Teacher, count: int, **options) -> list[str]:
    return [each.id for each in teacher.score_stream(sampled(count), **options)]


def in_order(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


def paths(fake: FakeTeacherService) -> list[str]:
    return [request.url.path for request in fake.requests]
