"""Equal requests: each row is computed once, and every reply has the same bytes."""

import asyncio
import re
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pad_teacher.cache import reuse
from pad_teacher.cache.score_cache import FILE
from pad_teacher.engines.base import EngineFailed, RowTooLarge
from pad_teacher.service import Service
from support.app import Running
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

ROUTES = ["likelihood", "selection", "score"]


def one(prompt: str = "hi", *responses: str) -> dict[str, Any]:
    return {"sets": [{"prompt": prompt, "responses": responses or ("yes", "no")}]}


def values(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(pad_\w+) (\S+)$", text, re.MULTILINE)}


async def until_called(engine: FakeEngine, times: int = 1) -> None:
    while len(engine.calls) < times:
        await anyio.sleep(0.001)


async def until_begun(service: Service, requests: int) -> None:
    """Until so many requests wait for the one unit that is under way."""
    while sum(len(unit.waiters) for unit in service.running.reuse.in_flight) < requests:
        await anyio.sleep(0.001)


@pytest.mark.parametrize("route", ROUTES)
async def test_fifty_equal_requests_are_the_same_bytes_and_one_call(
    running: Running, engine: FakeEngine, route: str
) -> None:
    async with running() as (client, _):
        replies = await asyncio.gather(*(client.post(f"/v1/{route}", json=one()) for _ in range(50)))
        assert {reply.status_code for reply in replies} == {200}
        assert len({reply.content for reply in replies}) == 1
        assert len(engine.calls) == 1


@pytest.mark.parametrize("route", ROUTES)
async def test_a_repeated_request_gets_the_same_bytes_uncomputed(
    running: Running, engine: FakeEngine, route: str
) -> None:
    async with running() as (client, _):
        first = await client.post(f"/v1/{route}", json=one())
        engine.calls.clear()
        again = await client.post(f"/v1/{route}", json=one(), headers={"X-Job-Id": "another"})
        assert again.content == first.content
        assert not engine.calls


async def test_a_completion_that_comes_again_calls_no_engine(running: Running, engine: FakeEngine) -> None:
    body = {"prompt": [[65, 66, 67]], "max_tokens": 1, "logprobs": 2, "echo": True}
    async with running() as (client, _):
        first = (await client.post("/v1/completions", json=body)).json()
        again = (await client.post("/v1/completions", json=body)).json()
        assert again["choices"] == first["choices"]
        assert len(engine.calls) == 1
        await client.post("/v1/completions", json=body | {"logprobs": 3})
        assert len(engine.calls) == 2


async def test_only_the_unknown_part_of_a_set_is_computed(
    running: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    answer = engine._answer

    def note(query: Any) -> Any:
        asked.append(query)
        return answer(query)

    monkeypatch.setattr(engine, "_answer", note)
    async with running() as (client, _):
        whole = await client.post("/v1/likelihood", json=one("hi", "a", "b", "c"))
        await client.post("/v1/likelihood", json=one("ho", "a", "c"))
        asked.clear()
        reply = await client.post("/v1/likelihood", json=one("ho", "a", "b", "b", "c"))
        assert [len(query.response_ids) for query in asked] == [1]  # "b", once
    async with running(cache_bytes=0) as (client, _):
        assert reply.json() == (await client.post("/v1/likelihood", json=one("ho", "a", "b", "b", "c"))).json()
        assert whole.json() == (await client.post("/v1/likelihood", json=one("hi", "a", "b", "c"))).json()


async def test_usage_counts_cached_and_computed_tokens_alike(client: httpx.AsyncClient) -> None:
    usages = [(await client.post("/v1/score", json=one())).json()["usage"] for _ in range(3)]
    assert usages[0] == usages[1] == usages[2]
    (job,) = (await client.get("/v1/usage")).json()["jobs"]
    assert job["total_tokens"] == 3 * usages[0]["total_tokens"]


async def test_what_is_known_waits_for_nobody(running: Running, engine: FakeEngine) -> None:
    async with running(max_batch_tokens=16) as (client, _):
        known = await client.post("/v1/likelihood", json=one())
        engine.gate.clear()
        engine.calls.clear()
        waiting = [asyncio.create_task(client.post("/v1/likelihood", json=one(f"new {k}"))) for k in range(5)]
        await until_called(engine)
        assert (await client.post("/v1/likelihood", json=one())).content == known.content
        engine.gate.set()
        assert {(await task).status_code for task in waiting} == {200}


async def test_a_waiting_request_gets_its_result_if_the_first_hangs_up(running: Running, engine: FakeEngine) -> None:
    async with running(max_batch_tokens=16) as (client, service):
        engine.gate.clear()
        running_now = asyncio.create_task(client.post("/v1/likelihood", json=one("before")))
        await until_called(engine)
        first = asyncio.create_task(client.post("/v1/likelihood", json=one(), headers={"X-Job-Id": "first"}))
        await until_begun(service, 2)
        second = asyncio.create_task(client.post("/v1/likelihood", json=one(), headers={"X-Job-Id": "second"}))
        await until_begun(service, 3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        engine.gate.set()
        assert (await second).status_code == 200
        assert (await running_now).status_code == 200
        assert len(engine.calls) == 2


async def test_a_hang_up_while_computing_leaves_the_result_to_others(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, service):
        engine.gate.clear()
        first = asyncio.create_task(client.post("/v1/likelihood", json=one()))
        await until_called(engine)
        second = asyncio.create_task(client.post("/v1/likelihood", json=one()))
        await until_begun(service, 2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        engine.gate.set()
        assert (await second).status_code == 200
        assert (await client.post("/v1/likelihood", json=one())).status_code == 200
        assert engine.calls == [1]
        assert service.running.batcher.queue.tokens == 0


async def test_what_was_computed_for_a_client_that_left_is_kept(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, _):
        engine.gate.clear()
        first = asyncio.create_task(client.post("/v1/likelihood", json=one()))
        await until_called(engine)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        engine.gate.set()
        assert (await client.post("/v1/likelihood", json=one())).status_code == 200
        assert engine.calls == [1]


async def test_a_request_that_waits_for_anothers_keeps_its_deadline(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, _):
        engine.gate.clear()
        patient = asyncio.create_task(client.post("/v1/likelihood", json=one()))
        await until_called(engine)
        hasty = await client.post("/v1/likelihood", json=one(), headers={"X-Deadline-Ms": "30"})
        assert (hasty.status_code, hasty.json()["error"]["code"]) == (504, "deadline_exceeded")
        engine.gate.set()
        assert (await patient).status_code == 200
        assert engine.calls == [1]


async def test_a_failure_reaches_all_who_wait_and_is_never_kept(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, service):
        engine.failure = RowTooLarge("a text of 9 tokens does not fit the teacher's memory")
        engine.gate.clear()
        waiting = [asyncio.create_task(client.post("/v1/likelihood", json=one())) for _ in range(5)]
        await until_begun(service, 5)
        engine.gate.set()
        assert {(await task).json()["error"]["code"] for task in waiting} == {"too_long"}
        assert engine.calls == [1]
        engine.failure = None
        assert (await client.post("/v1/likelihood", json=one())).status_code == 200
        assert engine.calls == [1, 1]


async def test_an_engine_that_dies_fails_all_who_wait_for_the_same(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, service):
        engine.failure = EngineFailed("device lost")
        engine.gate.clear()
        waiting = [asyncio.create_task(client.post("/v1/likelihood", json=one())) for _ in range(5)]
        await until_begun(service, 5)
        engine.gate.set()
        assert {(await task).status_code for task in waiting} == {503}
        assert engine.calls == [1]


async def test_a_number_that_is_not_finite_is_never_kept(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, _):
        for value in (float("nan"), float("-inf")):
            engine.value = value
            for route in ROUTES:
                assert (await client.post(f"/v1/{route}", json=one())).status_code == 503
        engine.value = None
        engine.calls.clear()
        assert (await client.post("/v1/score", json=one())).status_code == 200
        assert engine.calls == [2]


async def test_a_restart_with_a_data_directory_finds_what_was_scored(
    running: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    async with running(data=tmp_path) as (client, _):
        before = await client.post("/v1/score", json=one())
    engine.calls.clear()
    async with running(data=tmp_path) as (client, _):
        assert (await client.post("/v1/score", json=one())).content == before.content
    assert not engine.calls


@pytest.mark.parametrize(
    "change",
    [
        lambda patch, engine: patch.setattr(engine, "digest", lambda: "1" * 64),
        lambda patch, engine: patch.setattr(engine, "name", "another"),
        lambda patch, _: patch.setattr(reuse, "version", lambda _: "9.9.9"),
    ],
    ids=["weights", "engine", "version of the service"],
)
async def test_another_teacher_finds_nothing_of_the_first(
    running: Running, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    async with running(data=tmp_path) as (client, _):
        await client.post("/v1/score", json=one())
    engine.calls.clear()
    change(monkeypatch, engine)
    async with running(data=tmp_path) as (client, _):
        await client.post("/v1/score", json=one())
    assert engine.calls


async def test_a_damaged_file_is_never_served_and_fails_no_request(
    running: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    async with running(data=tmp_path) as (client, _):
        before = await client.post("/v1/score", json=one())
    whole = (tmp_path / FILE).read_bytes()
    for keep, change in [(len(whole), 1), (len(whole), 255), (5000, 0), (0, 0)]:
        content = bytearray(byte ^ change for byte in whole[4096:keep])
        (tmp_path / FILE).write_bytes(whole[: min(keep, 4096)] + content)
        engine.calls.clear()
        async with running(data=tmp_path) as (client, _):
            assert (await client.post("/v1/score", json=one())).content == before.content
            assert engine.calls
            engine.calls.clear()
            assert (await client.post("/v1/score", json=one())).content == before.content
            assert not engine.calls


async def test_without_a_cache_every_request_is_computed(running: Running, engine: FakeEngine) -> None:
    async with running(cache_bytes=0) as (client, _):
        replies = [await client.post("/v1/score", json=one()) for _ in range(2)]
        assert replies[0].content == replies[1].content
        assert len(engine.calls) == 2


async def test_a_cache_that_is_too_small_for_anything_keeps_nothing(running: Running, engine: FakeEngine) -> None:
    async with running(cache_bytes=1) as (client, _):
        for _ in range(2):
            assert (await client.post("/v1/score", json=one())).status_code == 200
        assert len(engine.calls) == 2


async def test_what_two_jobs_wait_for_is_paid_for_once(running: Running, engine: FakeEngine) -> None:
    async with running(max_batch_tokens=16) as (client, service):
        engine.gate.clear()
        before = asyncio.create_task(client.post("/v1/likelihood", json=one("before")))
        await until_called(engine)
        jobs = [
            asyncio.create_task(client.post("/v1/likelihood", json=body, headers={"X-Job-Id": job}))
            for job, body in [("a", one()), ("b", one()), ("b", one("ho"))]
        ]
        await until_begun(service, 4)
        queue = service.running.batcher.queue
        while not {("", "a"), ("", "b")} <= queue.jobs:
            await anyio.sleep(0.001)
        served = queue.served("", "a") + queue.served("", "b")
        engine.gate.set()
        shared, _, alone = [(await task).json()["usage"]["total_tokens"] for task in jobs]
        await before
        assert queue.served("", "a") + queue.served("", "b") - served == shared + alone
        assert len(engine.calls) == 3


async def test_the_metrics_tell_hits_misses_size_and_shared_work(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, service):
        engine.gate.clear()
        both = [asyncio.create_task(client.post("/v1/likelihood", json=one())) for _ in range(2)]
        await until_begun(service, 2)
        engine.gate.set()
        await asyncio.gather(*both)
        await client.post("/v1/likelihood", json=one("hi", "yes", "no", "maybe"))
        shown = values((await client.get("/metrics")).text)
        assert shown["pad_cache_hits_total"] == 2
        assert shown["pad_cache_misses_total"] == 5
        assert shown["pad_shared_in_flight_total"] == 1
        assert shown["pad_cache_bytes"] > 0
