"""What a key may use, and what becomes of it: weights, budgets, quotas, revocation, usage and metrics."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest

from pad_teacher.admission import key_ring
from pad_teacher.admission.keys import revoke_key
from pad_teacher.engines.queries import Answer, Query, TokenSet
from support.app import Running, bearer, score
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

COST = 12  # teacher tokens of that, by likelihood: 5 of the prompt, 4 and 3 of the responses
NOON = 20_000 * 86_400 + 12 * 3600.0


async def used_today(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
    return (await client.get("/v1/usage", headers=headers)).json()["key"]["tokens_today"]


async def begun(engine: FakeEngine) -> None:
    while not engine.calls:
        await anyio.sleep(0.001)


async def test_a_spent_budget_is_429_and_waiting_as_told_succeeds(running: Running, tmp_path: Path) -> None:
    key = bearer(tmp_path, "lab", tokens_per_minute=30)
    now = NOON
    async with running(cache_bytes=0, keys=tmp_path / "keys", clock=lambda: now) as (client, _):
        assert [(await score(client, key)).status_code for _ in range(3)] == [200, 200, 429]
        refused = await score(client, key)
        assert (refused.json()["error"]["code"], refused.json()["error"]["retryable"]) == ("budget_exceeded", True)
        assert refused.headers["Retry-After"] == "12"  # 6 of 12 tokens are there, at half a token a second
        now += 12
        assert (await score(client, key)).status_code == 200


async def test_a_request_beyond_a_minutes_budget_is_422_with_the_limit(
    running: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    key = bearer(tmp_path, "lab", tokens_per_minute=COST - 1)
    async with running(cache_bytes=0, keys=tmp_path / "keys") as (client, _):
        error = (await score(client, key)).json()["error"]
        assert (error["code"], error["retryable"]) == ("too_long", False)
        assert f"limit is {COST - 1} a minute" in error["message"]
        assert not engine.calls


async def test_a_used_up_quota_is_refused_unread_until_midnight(
    running: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    key = bearer(tmp_path, "lab", tokens_per_day=COST)
    now = NOON
    async with running(cache_bytes=0, keys=tmp_path / "keys", clock=lambda: now) as (client, _):
        assert (await score(client, key)).status_code == 200
        refused = await client.post("/v1/likelihood", content=b"never parsed", headers=key)
        assert refused.status_code == 429
        assert (refused.json()["error"]["code"], refused.json()["error"]["retryable"]) == ("quota_exceeded", False)
        assert refused.headers["Retry-After"] == str(12 * 3600)
        now = NOON + 12 * 3600
        assert (await score(client, key)).status_code == 200
        assert len(engine.calls) == 2


@pytest.mark.parametrize("data", [True, False])
async def test_a_quota_survives_a_restart_where_there_is_a_data_folder(
    running: Running, tmp_path: Path, data: bool
) -> None:
    key = bearer(tmp_path, "lab", tokens_per_day=2 * COST)
    settings = {"keys": tmp_path / "keys", "data": tmp_path / "data" if data else None}
    statuses = []
    for _ in range(3):
        async with running(cache_bytes=0, **settings) as (client, _):
            statuses.append((await score(client, key)).status_code)
    assert statuses == ([200, 200, 429] if data else [200, 200, 200])


async def test_usage_that_cannot_be_written_is_written_later(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pad_teacher.admission.usage.SAVE_SECONDS", 0.01)
    key = bearer(tmp_path, "lab")
    async with running(cache_bytes=0, keys=tmp_path / "keys", data=tmp_path / "data") as (client, _):
        (tmp_path / "data").rename(tmp_path / "gone")
        assert (await score(client, key)).status_code == 200
        await anyio.sleep(0.1)
        (tmp_path / "gone").rename(tmp_path / "data")
    async with running(cache_bytes=0, keys=tmp_path / "keys", data=tmp_path / "data") as (client, _):
        assert await used_today(client, key) == COST


async def test_dropped_requests_give_their_budget_back(running: Running, engine: FakeEngine, tmp_path: Path) -> None:
    key = bearer(tmp_path, "lab", tokens_per_day=1000, metrics=True)
    async with running(cache_bytes=0, keys=tmp_path / "keys", max_batch_tokens=16) as (client, service):
        engine.gate.clear()
        first = asyncio.create_task(score(client, key))
        await begun(engine)
        assert (await score(client, key | {"X-Deadline-Ms": "30"})).status_code == 504
        leaving = asyncio.create_task(score(client, key))
        while not service.running.batcher.queue.waiting:
            await anyio.sleep(0.001)
        assert await used_today(client, key) == 2 * COST
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert await used_today(client, key) == COST
        engine.gate.set()
        assert (await first).status_code == 200
        text = (await client.get("/metrics", headers=key)).text
        assert f'pad_dropped_tokens_total{{reason="deadline"}} {COST}.0' in text
        assert f'pad_dropped_tokens_total{{reason="client_left"}} {COST}.0' in text
        assert "pad_queued_requests 0.0" in text


async def test_what_an_engine_that_dies_did_not_score_is_given_back(
    running: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    key = bearer(tmp_path, "lab", tokens_per_day=1000)
    async with running(cache_bytes=0, keys=tmp_path / "keys", max_batch_tokens=16) as (client, service):
        assert (await score(client, key)).status_code == 200
        engine.gate.clear()
        engine.failure = RuntimeError("device lost")
        both = [asyncio.create_task(score(client, key)) for _ in range(2)]
        while not service.running.batcher.queue.waiting:
            await anyio.sleep(0.001)
        engine.gate.set()
        assert [(await task).status_code for task in both] == [503, 503]
        assert await used_today(client, key) == COST


async def test_the_use_of_ten_hundred_mixed_outcomes_is_what_was_run(
    running: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    key = bearer(tmp_path, "lab", tokens_per_day=10**9)
    async with running(cache_bytes=0, keys=tmp_path / "keys", max_queued_tokens=500) as (client, service):
        ran = 0
        whole = engine.score

        def counting(queries: Sequence[Query]) -> list[Answer]:
            nonlocal ran
            ran += COST * len(queries)
            return whole(queries)

        engine.score = counting

        async def send(index: int) -> None:
            headers = key | ({"X-Deadline-Ms": str(index % 7 + 1)} if index % 3 == 0 else {})
            with suppress(TimeoutError):
                await asyncio.wait_for(score(client, headers), 0.02 if index % 5 == 0 else 10)

        for start in range(0, 1000, 100):
            await asyncio.gather(*(send(start + k) for k in range(100)))
        assert await used_today(client, key) == ran > 0
        assert (service.running.batcher.queue.waiting, service.running.batcher.queue.tokens) == (0, 0)


async def test_a_revoked_key_is_401_and_its_request_under_way_finishes(
    running: Running, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "RELOAD_SECONDS", 0)
    key, other = bearer(tmp_path, "leaked"), bearer(tmp_path, "other")
    async with running(cache_bytes=0, keys=tmp_path / "keys") as (client, _):
        engine.gate.clear()
        under_way = asyncio.create_task(score(client, key))
        await begun(engine)
        revoke_key(tmp_path / "keys", "leaked")
        assert (await score(client, key)).status_code == 401
        engine.gate.set()
        assert (await under_way).status_code == 200
        assert (await score(client, other)).status_code == 200


async def test_a_keys_weight_is_its_share_of_each_batch(
    running: Running, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light, heavy = bearer(tmp_path, "light"), bearer(tmp_path, "heavy", weight=3)
    of_heavy: list[bool] = []  # in the order of the engine: that of the replies depends on who writes them
    answer = engine._answer

    def note(query: Query) -> Answer:
        assert isinstance(query, TokenSet)
        of_heavy.append(len(query.response_ids[0]) == len(query.response_ids[1]))
        return answer(query)

    monkeypatch.setattr(engine, "_answer", note)

    async def ask(key: dict[str, str], responses: list[str]) -> None:
        body = {"sets": [{"prompt": "hi", "responses": responses}]}
        assert (await client.post("/v1/likelihood", json=body, headers=key)).status_code == 200

    async with running(cache_bytes=0, keys=tmp_path / "keys", max_batch_tokens=8 * COST) as (client, service):
        engine.gate.clear()
        first = asyncio.create_task(score(client, light))
        await begun(engine)
        asks = [ask(light, ["abc", "de"]) for _ in range(20)] + [ask(heavy, ["abc", "xyz"]) for _ in range(20)]
        tasks = [asyncio.create_task(each) for each in asks]
        while service.running.batcher.queue.waiting < len(tasks):
            await anyio.sleep(0.001)
        engine.gate.set()
        await asyncio.gather(first, *tasks)
        assert 15 - 3 <= sum(of_heavy[1:21]) <= 15 + 3


async def test_usage_says_what_the_key_may_use_and_what_is_left(running: Running, tmp_path: Path) -> None:
    key = bearer(tmp_path, "lab", weight=2, tokens_per_minute=100, tokens_per_day=1000)
    async with running(cache_bytes=0, keys=tmp_path / "keys", clock=lambda: NOON) as (client, _):
        await score(client, key | {"X-Job-Id": "a"})
        reply = (await client.get("/v1/usage", headers=key)).json()
        assert reply["key"] == {
            "name": "lab",
            "weight": 2.0,
            "tokens_per_minute": 100,
            "left_of_minute": 100 - COST,
            "tokens_per_day": 1000,
            "left_of_day": 1000 - COST,
            "tokens_today": COST,
        }
        assert [(job["job"], job["total_tokens"]) for job in reply["jobs"]] == [("a", COST)]
    async with running(cache_bytes=0) as (client, _):
        assert (await client.get("/v1/usage")).json()["key"] == {"name": "", "weight": 1.0, "tokens_today": 0}


@pytest.mark.parametrize(("measured", "least", "most"), [(0, 1, 1), (3, 5, 20)])
async def test_retry_after_is_the_waiting_work_at_the_measured_rate(
    running: Running, engine: FakeEngine, measured: int, least: int, most: int
) -> None:
    whole = engine.score

    def slow(queries: Sequence[Query]) -> list[Answer]:
        time.sleep(0.05)  # so 100 waiting batches take 5 s, or more on a machine that does other things
        return whole(queries)

    engine.score = slow
    async with running(cache_bytes=0, max_batch_tokens=16, max_queued_tokens=100 * COST) as (client, service):
        for _ in range(measured):
            assert (await score(client)).status_code == 200
        engine.gate.clear()
        waiting = [asyncio.create_task(score(client)) for _ in range(101)]
        while service.running.batcher.queue.waiting < 100:
            await anyio.sleep(0.001)
        refused = await score(client)
        assert refused.status_code == 429
        assert least <= int(refused.headers["Retry-After"]) <= most
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        engine.gate.set()


@pytest.mark.parametrize("concurrent", [1, 2])
async def test_work_shared_by_two_keys_is_charged_to_the_first_alone(
    running: Running, tmp_path: Path, engine: FakeEngine, concurrent: int
) -> None:
    first, second = (bearer(tmp_path, name, metrics=True) for name in ("first", "second"))
    engine.concurrent_batches = concurrent  # with 2 its turn comes while the first one's runs
    async with running(keys=tmp_path / "keys") as (client, service):
        engine.gate.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(score, client, first)
            await begun(engine)
            group.start_soon(score, client, second)
            while "pad_shared_in_flight_total 1.0" not in (await client.get("/metrics", headers=first)).text:
                await anyio.sleep(0.001)
            await anyio.sleep(0.02)
            engine.gate.set()
        assert (await used_today(client, first), await used_today(client, second)) == (COST, 0)
        assert (await score(client, second)).status_code == 200
        assert await used_today(client, second) == 0  # and what is known costs nothing
        dropped = [sample.value for metric in service.metrics.dropped_tokens.collect() for sample in metric.samples]
        assert not any(value for value in dropped if value < 1e6)  # nothing was lost; times of creation are larger
    assert len(engine.calls) == 1
