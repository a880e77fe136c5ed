"""More requests than the service can queue."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.processes import TeacherProcess, teacher_process


def sets(name: str, count: int = 4) -> list[dict[str, Any]]:
    """Of their own for each name: the same sets would be computed once."""
    return [{"prompt": f"hi {name} {k}", "responses": ["yes" * 8, "no" * 8]} for k in range(count)]


@pytest.fixture
def small_queue(tiny_directory: Path, tmp_path: Path) -> Any:
    options = ("--cache-bytes", "0", "--max-queued-tokens", "4000", "--max-batch-tokens", "1000")
    with teacher_process(tiny_directory, tmp_path / "log", *options) as teacher:
        teacher.wait_until_ready()
        yield teacher


@pytest.fixture
def computing(tiny_directory: Path, tmp_path: Path) -> Any:
    """One that computes what it is asked again, so that the engine has work."""
    with teacher_process(tiny_directory, tmp_path / "log", "--cache-bytes", "0") as teacher:
        teacher.wait_until_ready()
        yield teacher


async def flood(url: str, clients: int, requests: int, **options: Any) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=clients)) as http:
        sends = [http.post("/v1/score", json={"sets": sets(f"{clients} {k}")}, **options) for k in range(requests)]
        return list(await asyncio.gather(*sends))


def test_ten_times_the_load_gets_429_with_retry_after_and_no_5xx(small_queue: TeacherProcess) -> None:
    replies = asyncio.run(flood(small_queue.url, clients=40, requests=200))
    outcomes = Counter(reply.status_code for reply in replies)
    assert set(outcomes) == {200, 429}
    assert all(reply.headers["Retry-After"] for reply in replies if reply.status_code == 429)
    assert small_queue.http.post("/v1/score", json={"sets": sets("last")}).status_code == 200
    assert "pad_queued_tokens 0.0" in small_queue.http.get("/metrics").text


def test_a_polite_job_is_served_while_a_greedy_one_floods(computing: TeacherProcess) -> None:
    async def both() -> tuple[int, list[int]]:
        greedy = asyncio.create_task(flood(computing.url, clients=30, requests=150, headers={"X-Job-Id": "greedy"}))
        done_before: list[int] = []
        async with httpx.AsyncClient(base_url=computing.url, timeout=60) as http:
            for k in range(5):
                body = {"sets": sets(f"polite {k}", 1)}
                reply = await http.post("/v1/score", json=body, headers={"X-Job-Id": "polite"})
                done_before.append(reply.status_code)
        finished_first = not greedy.done()
        return finished_first, done_before + [reply.status_code for reply in await greedy]

    first, outcomes = asyncio.run(both())
    assert first
    assert set(outcomes) == {200}


def test_health_answers_while_the_engine_is_busy(computing: TeacherProcess) -> None:
    async def watch() -> list[int]:
        flooding = asyncio.create_task(flood(computing.url, clients=20, requests=60))
        answers = []
        async with httpx.AsyncClient(base_url=computing.url, timeout=5) as http:
            while not flooding.done():
                answers.append((await http.get("/v1/health/ready")).status_code)
        await flooding
        return answers

    answers = asyncio.run(watch())
    assert set(answers) == {200}
    assert len(answers) > 5
