"""The event loop's work in one step is bounded, however much a request holds: counted in calls, not in seconds."""

import asyncio
import gc
import json
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import numpy as np
import pytest

from pad_teacher.admission.client import Client
from pad_teacher.engines.queries import FloatArray
from pad_teacher.runtime import garbage
from pad_teacher.scoring.plan import usage
from pad_wire.scoring import MAX_SETS
from pad_wire.sets import MAX_RESPONSES
from support.app import Running, score
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

MOST_CALLS = 20_000  # of Python and C functions in one step: to choose a batch of 512 units is 30 of them a unit


class Quick(FakeEngine):
    def _score(self, prompt: list[int], ids: list[int]) -> FloatArray:
        return np.full(len(ids), -1.0, np.float32)


@pytest.fixture
def engine() -> FakeEngine:
    return Quick()


@contextmanager
def calls_a_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many functions each step of the event loop called, while the block runs."""
    counted: list[int] = []
    run, loop_thread = asyncio.events.Handle._run, threading.get_ident()

    def counting(handle: Any) -> None:
        if threading.get_ident() != loop_thread:
            run(handle)
            return
        calls = 0

        def count(_frame: Any, event: str, _arg: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            run(handle)
        finally:
            sys.setprofile(None)
            counted.append(calls)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events.Handle, "_run", counting)
        yield counted


SETS = {
    "as many sets as may be": [{"prompt": f"p{k}", "responses": ["a", "b"]} for k in range(MAX_SETS)],
    "as many responses as may be": [
        {"prompt": f"p{k}", "responses": [f"{j}" for j in range(MAX_RESPONSES)]} for k in range(MAX_SETS // 4)
    ],
    "many units a set": [
        {"prompt": f"p{k}", "responses": [f"{j:040}" for j in range(MAX_RESPONSES)]} for k in range(8)
    ],
}


@pytest.mark.parametrize("name", SETS)
async def test_no_step_of_the_event_loop_grows_with_the_request(
    running: Running, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body = json.dumps({"sets": SETS[name]})
    async with running(max_batch_tokens=64 if name == "many units a set" else 8192) as (client, _):
        with calls_a_step(monkeypatch) as steps:
            reply = await client.post("/v1/likelihood", content=body)
        assert reply.status_code == 200
        assert len(reply.json()["sets"]) == len(SETS[name])
        assert 0 < max(steps) < MOST_CALLS


async def test_a_client_that_leaves_costs_the_event_loop_no_more(
    running: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"sets": SETS["as many sets as may be"]})
    async with running() as (client, service):
        engine.gate.clear()
        with calls_a_step(monkeypatch) as steps:
            tasks = [asyncio.create_task(client.post("/v1/likelihood", content=body)) for _ in range(4)]
            while service.running.batcher.queue.tokens < 2 * MAX_SETS:
                await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert service.running.batcher.queue.tokens == 0
        assert max(steps) < MOST_CALLS
        engine.gate.set()


async def test_many_waiting_clients_cost_the_event_loop_no_more(
    running: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"sets": SETS["as many sets as may be"]})
    async with running() as (client, service):
        engine.gate.clear()
        with calls_a_step(monkeypatch) as steps:
            tasks = [asyncio.create_task(client.post("/v1/likelihood", content=body)) for _ in range(20)]
            with anyio.move_on_after(30):  # on a busy machine the engine may have taken more than one of them
                while service.running.batcher.queue.tokens < 19 * 8 * MAX_SETS:
                    await asyncio.sleep(0.001)
            engine.gate.set()
            assert {(await task).status_code for task in tasks} == {200}
        assert sum(engine.calls) == MAX_SETS
        assert max(steps) < MOST_CALLS


async def test_usage_of_many_jobs_is_added_up_off_the_event_loop(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as (client, service):
        for k in range(10_000):
            service.usage.count(Client("", f"job{k}"), usage(prompt=1))
        with calls_a_step(monkeypatch) as steps:
            reply = await client.get("/v1/usage")
        assert len(reply.json()["jobs"]) == 10_000
        assert max(steps) < MOST_CALLS


@pytest.fixture
def served_collector() -> Iterator[None]:
    before = gc.get_threshold()
    garbage.freeze_loaded_objects()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("served_collector")
async def test_garbage_is_collected_in_small_parts_under_load(running: Running) -> None:
    looked_at: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looked_at.append(sum(len(gc.get_objects(generation=k)) for k in range(info["generation"] + 1)))

    body = json.dumps({"sets": SETS["as many responses as may be"]})
    async with running() as (client, _):
        gc.callbacks.append(look)
        try:
            reply = await client.post("/v1/likelihood", content=body)
        finally:
            gc.callbacks.remove(look)
    assert reply.status_code == 200
    assert len(looked_at) > 100
    assert max(looked_at) < 10_000


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("served_collector")
async def test_a_full_collection_waits_until_no_request_runs(
    running: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "COLLECT_SECONDS", 0.01)
    monkeypatch.setattr(garbage, "MOST_WAITS", 10**9)
    async with running() as (client, _):
        engine.gate.clear()
        scoring = asyncio.create_task(score(client))
        while not engine.calls:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        left = weakref.ref(Ring())
        await asyncio.sleep(0.1)
        assert left() is not None
        engine.gate.set()
        assert (await scoring).status_code == 200
        async with asyncio.timeout(5):
            while left() is not None:
                await asyncio.sleep(0.01)
