import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from pad_teacher.admission.batcher import Batcher
from pad_teacher.admission.budgets import Budgets
from pad_teacher.admission.client import Client
from pad_teacher.admission.engine_runner import EngineRunner
from pad_teacher.admission.queue import AdmissionQueue
from pad_teacher.admission.request import PendingRequest
from pad_teacher.cache.in_flight import InFlight, Unit
from pad_teacher.engines.base import RowTooLarge
from pad_teacher.engines.queries import TokenSet
from pad_teacher.runtime.metrics import Metrics
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

QUERY = TokenSet([1], [[2, 3]])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def batcher(engine: FakeEngine, anyio_backend: str) -> AsyncIterator[Batcher]:
    metrics = Metrics()
    queue = AdmissionQueue(Budgets(), metrics, max_batch_tokens=100, max_queued_tokens=1000)
    made = Batcher(queue, EngineRunner(engine, metrics), keep=lambda _: None, on_failure=lambda _: None)
    yield made
    await made.close()


def request(unit: Unit, job: str = "job") -> PendingRequest:
    return PendingRequest(Client("", job), [unit])


def test_rows_that_are_under_way_are_joined_and_others_are_not() -> None:
    in_flight = InFlight()
    unit, shared = in_flight.join([b"a", b"b"], QUERY)
    assert not shared
    assert in_flight.join([b"a", b"b"], QUERY) == (unit, True)
    assert in_flight.join([b"b", b"a"], QUERY)[0] is not unit


def test_a_unit_is_forgotten_once_nobody_holds_it() -> None:
    in_flight = InFlight()
    unit, _ = in_flight.join([b"a"], QUERY)
    waiting = request(unit)
    waiting.group.items.clear()
    del unit
    assert not in_flight.units


def test_the_first_turn_pays_and_after_a_turn_that_came_to_nothing_the_next_is_the_first() -> None:
    unit = Unit((b"a",), QUERY)
    assert (unit.claim(), unit.claim()) == (True, False)
    unit.let_go()
    assert unit.claim()


async def test_who_joins_a_unit_that_has_just_been_computed_gets_its_result_without_the_engine(
    batcher: Batcher, engine: FakeEngine
) -> None:
    unit = Unit((b"a",), QUERY)
    await batcher.submit(request(unit), None)
    late = request(unit)
    await batcher.submit(late, None)
    assert late.results == [unit.result]
    assert engine.calls == [1]


async def test_who_joins_a_unit_that_has_just_failed_has_it_computed_again(
    batcher: Batcher, engine: FakeEngine
) -> None:
    unit = Unit((b"a",), QUERY)
    engine.failure = RowTooLarge("too large")
    with pytest.raises(Exception, match="too large"):
        await batcher.submit(request(unit), None)
    engine.failure = None
    assert unit.claim()  # and pays for it
    unit.let_go()
    again = request(unit)
    await batcher.submit(again, None)
    assert again.results == [unit.result]


async def test_a_unit_is_computed_for_those_who_stay_even_if_the_one_whose_turn_it_was_has_left(
    batcher: Batcher, engine: FakeEngine
) -> None:
    small, shared = Unit((b"a",), QUERY), Unit((b"b",), QUERY)
    raised: list[Any] = [RowTooLarge("together"), None, None]
    leaving: asyncio.Task[None] | None = None

    def enter(size: int) -> None:
        engine.calls.append(size)
        engine.gate.wait(10)
        if error := raised.pop(0):
            raise error

    engine._enter = enter  # type: ignore[method-assign]
    engine.gate.clear()
    # One batch of two that does not fit; its second part's client leaves before it is run alone.
    first = asyncio.create_task(batcher.submit(request(small), None))
    leaving = asyncio.create_task(batcher.submit(request(shared, "leaves"), None))
    while not engine.calls:
        await asyncio.sleep(0.001)
    stays = request(shared, "stays")
    staying = asyncio.create_task(batcher.submit(stays, None))
    await asyncio.sleep(0)
    leaving.cancel()
    engine.gate.set()
    await asyncio.gather(first, staying)
    assert stays.results == [shared.result]
    assert engine.calls == [2, 1, 1]


async def test_a_result_that_comes_twice_counts_once() -> None:
    waiting = PendingRequest(Client("", "job"), [Unit((b"a",), QUERY), Unit((b"b",), QUERY)])
    done = waiting.admit("", 0.0)
    for _ in range(2):
        waiting.answer(0, [np.zeros(2, np.float32)])
    assert not done.done()
    waiting.answer(1, [np.zeros(2, np.float32)])
    assert done.done()


async def test_a_request_that_waits_for_nothing_is_done_at_once(batcher: Batcher, engine: FakeEngine) -> None:
    await batcher.submit(PendingRequest(Client("", "job"), []), None)
    assert not engine.calls
