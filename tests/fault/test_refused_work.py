"""Requests that a real service refuses: they take little memory, and little of the other keys' time."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from pad_teacher.admission.keys import add_key
from support.processes import TeacherProcess, teacher_process

LARGEST = 16 * 2**20
LONG = "so it goes, " * 1_250_000  # 15 MB
numbers = itertools.count()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file, and the headers of three keys."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    limits: dict[str, Any] = {"greedy": {"weight": 0.01, "tokens_per_minute": 1000}, "polite": {}, "stubborn": {}}
    headers = {name: {"Authorization": f"Bearer {add_key(file, name, **limits[name])}"} for name in limits}
    return {"file": file, **headers}


@pytest.fixture(scope="module")
def teacher(
    tiny_directory: Path, keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TeacherProcess]:
    options = ("--keys", str(keys["file"]), "--max-body-bytes", str(LARGEST))
    with teacher_process(tiny_directory, tmp_path_factory.mktemp("teacher") / "log", *options) as teacher:
        teacher.wait_until_ready()
        yield teacher


def of(prompt: str, responses: list[str], count: int = 1, **fields: Any) -> dict[str, Any]:
    return {"sets": [{"prompt": prompt, "responses": responses}] * count, **fields}


REFUSED: dict[str, tuple[str, Any]] = {
    "a prompt": ("likelihood", of(LONG, ["yes"])),
    "a prompt of many turns": ("score", of([{"role": "user", "content": "a"}] * 20_000, ["yes", "no"])),  # type: ignore[arg-type]
    "a response": ("likelihood", of("hi", [LONG])),
    "many responses": ("likelihood", of("hi", [LONG[:58_000]] * 256)),
    "options": ("selection", of("hi", [LONG[: 580_000 + place] for place in range(26)])),
    "a completion": ("completions", {"prompt": LONG[:7_500_000]}),  # its body may have half as much
    "many orders": ("selection", of("hi", ["a", "b", "c", "d", "e"], 1024, orders="all")),
    "many pairs": ("selection", of("hi", [f"a{place}" for place in range(256)], form="pairwise", orders="single")),
    "its own limit": ("score", of("hi", ["yes" * 20, "no" * 20], 60)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_takes_little_memory(teacher: TeacherProcess, keys: dict[str, Any], name: str) -> None:
    route, body = REFUSED[name]
    before = teacher.peak_memory_bytes()
    reply = teacher.http.post(
        f"/v1/{route}", json=body, headers=keys["polite" if name != "its own limit" else "greedy"]
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "too_long")
    assert teacher.peak_memory_bytes() - before < 200 * 2**20


@pytest.mark.parametrize("name", REFUSED)
def test_refused_requests_leave_other_keys_their_time(
    teacher: TeacherProcess, keys: dict[str, Any], name: str
) -> None:
    route, body = REFUSED[name]
    content, ended = httpx.Request("POST", teacher.url, json=body).read(), Event()

    def refused() -> set[int]:
        seen: set[int] = set()
        with httpx.Client(base_url=teacher.url, timeout=10, headers=keys["greedy"]) as http:
            while not ended.is_set():
                with suppress(httpx.TimeoutException):  # its share is small, so it may wait
                    seen.add(http.post(f"/v1/{route}", content=content).status_code)
        return seen

    times: list[float] = []
    with ThreadPoolExecutor(4) as pool:
        greedy = [pool.submit(refused) for _ in range(4)]
        for _ in range(5):
            began = time.monotonic()
            own = of(f"hi {next(numbers)}", ["yes", "no"])
            assert teacher.http.post("/v1/likelihood", json=own, headers=keys["polite"]).status_code == 200
            times.append(time.monotonic() - began)
        ended.set()
        assert set().union(*(each.result() for each in greedy)) <= {422, 429}
    assert max(times) < 5  # it was 7 to more than 120 s


def test_a_key_that_is_always_refused_is_slowed_and_said_briefly(
    teacher: TeacherProcess, keys: dict[str, Any]
) -> None:
    route, body = REFUSED["many orders"]
    content, seconds = httpx.Request("POST", teacher.url, json=body).read(), list[float]()
    with httpx.Client(base_url=teacher.url, timeout=60, headers=keys["stubborn"]) as http:
        while len(seconds) < 10 or sum(seconds) < 3:
            began = time.monotonic()
            assert http.post(f"/v1/{route}", content=content).status_code == 422
            seconds.append(time.monotonic() - began)
    assert min(seconds[-5:]) > 1.5 * min(seconds[:5])
    lines = sum('"key": "stubborn"' in line for line in teacher.log.read_text().splitlines())
    assert 0 < lines <= 5 * (sum(seconds) + 2)
