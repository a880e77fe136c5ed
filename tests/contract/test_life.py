"""The service's life: loading, readiness, failures of the engine, draining."""

import asyncio
import threading
from collections import Counter
from functools import partial

import anyio
import httpx
import pytest

from pad_teacher.engines.base import RowTooLarge
from pad_wire.rendering.template import Template
from support.app import Running
from support.fakes import FakeEngine, fake_teacher

pytestmark = pytest.mark.anyio

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}


async def test_live_at_once_and_ready_only_after_loading(running: Running, engine: FakeEngine) -> None:
    loaded = threading.Event()

    def load() -> object:
        loaded.wait(10)
        return fake_teacher(engine)

    async with running(load=load) as (client, service):
        assert (await client.get("/v1/health/live")).status_code == 200
        assert (await client.get("/v1/health/ready")).status_code == 503
        reply = await client.post("/v1/score", json=ONE)
        assert (reply.status_code, reply.json()["error"]["retryable"]) == (503, True)
        assert reply.headers["Retry-After"]
        loaded.set()
        while service.status == "starting":
            await anyio.sleep(0.001)
        assert (await client.get("/v1/health/ready")).status_code == 200


async def test_a_teacher_that_cannot_load_is_never_ready_and_says_why(running: Running) -> None:
    def load() -> object:
        raise RuntimeError("golden score: off by 1")

    async with running(load=load) as (client, service):
        while service.status == "starting":
            await anyio.sleep(0.001)
        ready = await client.get("/v1/health/ready")
        assert ready.status_code == 503
        assert ready.json()["reason"] == "RuntimeError"  # the route is open to all: the log has the rest
        assert (await client.post("/v1/score", json=ONE)).json()["error"]["code"] == "engine_failed"


async def test_an_engine_that_dies_fails_its_requests_and_is_not_ready(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, _):
        engine.failure = RuntimeError("device lost")
        for _ in range(2):
            reply = await client.post("/v1/score", json=ONE)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_failed")
        assert (await client.get("/v1/health/ready")).status_code == 503


async def test_an_engine_that_dies_while_idle_is_noticed_and_not_ready(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, service):
        engine.dead = True
        while service.status == "ready":
            await anyio.sleep(0.01)
        assert (await client.get("/v1/health/ready")).status_code == 503
        assert (await client.post("/v1/score", json=ONE)).json()["error"]["code"] == "engine_failed"
    assert engine.closed


async def test_an_engine_may_have_a_second_batch_while_one_runs(running: Running, engine: FakeEngine) -> None:
    engine.concurrent_batches = 2
    async with running(max_batch_tokens=16) as (client, _):
        engine.gate.clear()
        async with anyio.create_task_group() as group:
            for k in range(3):
                asked = {"sets": [{"prompt": f"hi {k}", "responses": ["yes", "no"]}]}
                group.start_soon(partial(client.post, "/v1/likelihood", json=asked))
            while len(engine.calls) < 2:
                await anyio.sleep(0.001)
            await anyio.sleep(0.05)
            assert len(engine.calls) == 2
            engine.gate.set()
        assert len(engine.calls) >= 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
async def test_a_non_finite_number_is_an_error_and_never_a_reply(
    running: Running, engine: FakeEngine, value: float
) -> None:
    async with running() as (client, _):
        engine.value = value
        for route in ("likelihood", "selection", "score"):
            reply = await client.post(f"/v1/{route}", json=ONE)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_failed")
            assert reply.json()["error"]["retryable"] is False
        engine.value = None
        assert (await client.post("/v1/score", json=ONE)).status_code == 200


async def test_a_text_too_large_for_the_device_is_refused_alone(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, _):
        engine.failure = RowTooLarge("a text of 9 tokens does not fit the teacher's memory")
        assert (await client.post("/v1/likelihood", json=ONE)).json()["error"]["code"] == "too_long"
        engine.failure = None
        assert (await client.post("/v1/likelihood", json=ONE)).status_code == 200


async def test_a_full_queue_refuses_at_once_and_says_when_to_return(running: Running, engine: FakeEngine) -> None:
    async with running(max_queued_tokens=1000, max_batch_tokens=16) as (client, _):
        engine.gate.clear()
        waiting = [asyncio.create_task(client.post("/v1/score", json=ONE)) for _ in range(20)]
        await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        done, pending = await asyncio.wait(waiting, timeout=0.5)
        refused = [task.result() for task in done]
        assert refused
        assert {reply.status_code for reply in refused} == {429}
        assert all(int(reply.headers["Retry-After"]) >= 1 for reply in refused)
        engine.gate.set()
        assert {(await task).status_code for task in pending} == {200}


async def test_a_full_queue_has_room_for_owners_below_their_share(running: Running, engine: FakeEngine) -> None:
    async with running(max_queued_tokens=1000, max_batch_tokens=16) as (client, _):
        engine.gate.clear()
        greedy = [asyncio.create_task(client.post("/v1/score", json=ONE)) for _ in range(20)]
        await anyio.sleep(0.2)
        polite = asyncio.create_task(client.post("/v1/likelihood", json=ONE, headers={"X-Job-Id": "polite"}))
        await anyio.sleep(0.1)
        engine.gate.set()
        assert (await polite).status_code == 200
        assert 429 in {(await task).status_code for task in greedy}


@pytest.mark.parametrize(
    ("count", "n", "options"),
    [
        (1024, 256, {"form": "pairwise"}),
        (1024, 5, {"orders": "all"}),
        (1, 256, {"form": "pairwise", "orders": "single"}),
    ],
)
async def test_a_small_body_that_asks_too_much_is_refused_unrendered(
    running: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, count: int, n: int, options: dict[str, str]
) -> None:
    sets = [{"prompt": "a", "responses": [str(k) for k in range(n)]}] * count
    async with running() as (client, _):
        rendered: list[object] = []
        render = Template.render
        monkeypatch.setattr(Template, "render", lambda *args, **more: [rendered.append(0), render(*args, **more)][1])
        for route in ("selection", "score"):
            reply = await client.post(f"/v1/{route}", json={"sets": sets, **options})
            assert (reply.status_code, reply.json()["error"]["code"]) == (422, "too_long")
        assert len(rendered) < 10  # the wording, to count its tokens
        assert not engine.calls


async def test_more_responses_than_a_batch_are_one_reply(running: Running, engine: FakeEngine) -> None:
    sets = [{"prompt": "hi", "responses": [f"response number {k}" for k in range(20)]}]
    async with running() as (client, _):
        whole = (await client.post("/v1/likelihood", json={"sets": sets})).json()
    async with running(max_batch_tokens=64) as (client, _):
        engine.calls.clear()
        assert (await client.post("/v1/likelihood", json={"sets": sets})).json() == whole
        assert len(engine.calls) > 3


async def test_an_engine_that_dies_is_never_called_again(
    running: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One set alone; then three, too large together; then the first of them alone, which ends the engine.
    raised = iter([None, RowTooLarge("too large"), RuntimeError("device lost")])

    def enter(size: int) -> None:
        engine.calls.append(size)
        engine.gate.wait(10)
        if error := next(raised):
            raise error

    async with running() as (client, _):
        monkeypatch.setattr(engine, "_enter", enter)
        engine.gate.clear()
        several = [asyncio.create_task(client.post("/v1/likelihood", json=ONE))]
        while not engine.calls:
            await anyio.sleep(0.001)
        others = [{"sets": [{"prompt": f"hi {k}", "responses": ["yes", "no"]}]} for k in range(3)]
        several += [asyncio.create_task(client.post("/v1/likelihood", json=body)) for body in others]
        await anyio.sleep(0.5)
        engine.gate.set()
        assert sorted([(await task).status_code for task in several]) == [200, 503, 503, 503]
        assert engine.calls == [1, 3, 1]


async def test_a_request_larger_than_the_queue_is_told_to_split(running: Running) -> None:
    async with running(max_queued_tokens=100) as (client, _):
        error = (await client.post("/v1/score", json=ONE)).json()["error"]
        assert (error["code"], error["retryable"]) == ("too_long", False)


async def test_a_deadline_that_passes_never_reaches_the_engine(running: Running, engine: FakeEngine) -> None:
    async with running(max_batch_tokens=20) as (client, _):
        engine.gate.clear()
        first = asyncio.create_task(client.post("/v1/likelihood", json=ONE))
        while not engine.calls:
            await anyio.sleep(0.001)
        late = await client.post("/v1/likelihood", json=ONE, headers={"X-Deadline-Ms": "30"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        engine.gate.set()
        assert (await first).status_code == 200
        assert engine.calls == [1]


async def test_a_client_that_leaves_gives_its_place_back(running: Running, engine: FakeEngine) -> None:
    async with running(max_batch_tokens=16) as (client, service):
        engine.gate.clear()
        tasks = [asyncio.create_task(client.post("/v1/likelihood", json=ONE)) for _ in range(5)]
        while service.running.batcher.queue.tokens == 0:
            await anyio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert service.running.batcher.queue.tokens == 0
        engine.gate.set()


async def test_ten_thousand_mixed_outcomes_leave_nothing_behind(running: Running, engine: FakeEngine) -> None:
    async with running(max_queued_tokens=2_000) as (client, service):
        outcomes: Counter[int] = Counter()

        async def send(index: int) -> None:
            headers = {"X-Job-Id": f"job{index % 7}"}
            if index % 5 == 0:
                headers["X-Deadline-Ms"] = "1"
            own = {"sets": [{"prompt": f"hi {index}", "responses": ["yes", "no"]}]}
            body = (own if index % 2 else ONE) if index % 3 else {"sets": []}
            try:
                reply = await asyncio.wait_for(client.post("/v1/likelihood", json=body, headers=headers), 0.5)
                outcomes[reply.status_code] += 1
            except TimeoutError:
                outcomes[0] += 1

        for start in range(0, 10_000, 100):
            await asyncio.gather(*(send(start + k) for k in range(100)))
        assert service.running.batcher.queue.tokens == 0
        assert not service.running.batcher.queue.jobs
        assert set(outcomes) <= {200, 422, 429, 504, 0}
        assert outcomes[200] > 1000


async def test_a_batch_mixes_clients_and_each_gets_its_own(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, _):
        alone = [
            (await client.post("/v1/score", json={"sets": [{"prompt": f"p{k}", "responses": ["a", "b"]}]})).json()
            for k in range(8)
        ]
    async with running() as (client, _):
        engine.gate.clear()
        engine.calls.clear()
        together = [
            asyncio.create_task(
                client.post("/v1/score", json={"sets": [{"prompt": f"p{k}", "responses": ["a", "b"]}]})
            )
            for k in range(8)
        ]
        await anyio.sleep(0.1)
        engine.gate.set()
        assert [(await task).json() for task in together] == alone
        assert max(engine.calls) > 1


async def test_draining_refuses_new_work_and_finishes_the_old(running: Running, engine: FakeEngine) -> None:
    async with running() as (client, service):
        engine.gate.clear()
        old = asyncio.create_task(client.post("/v1/score", json=ONE))
        while not engine.calls:
            await anyio.sleep(0.001)
        service.drain()
        assert (await client.get("/v1/health/ready")).status_code == 503
        assert (await client.post("/v1/score", json=ONE)).status_code == 503
        engine.gate.set()
        assert (await old).status_code == 200


async def test_metrics_tell_requests_tokens_and_readiness(client: httpx.AsyncClient) -> None:
    await client.post("/v1/score", json=ONE)
    text = (await client.get("/metrics")).text
    assert 'pad_requests_total{route="/v1/score",status="200"} 1.0' in text
    assert 'pad_teacher_tokens_total{kind="question"}' in text
    assert "pad_ready 1.0" in text
    assert "pad_label_mass_count 1.0" in text
