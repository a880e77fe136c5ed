"""The batcher: units that several requests wait for, and engines that fail."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from pad_teacher.admission.batcher import Batcher
from pad_teacher.admission.budgets import Budgets
from pad_teacher.admission.client import Client
from pad_teacher.admission.engine_runner import EngineRunner
from pad_teacher.admission.queue import AdmissionQueue
from pad_teacher.admission.request import PendingRequest
from pad_teacher.cache.in_flight import Unit
from pad_teacher.engines.base import RowTooLarge
from pad_teacher.engines.queries import Answer, Query, TokenSet
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

QUERY = TokenSet([1], [[2, 3]])


class Small(FakeEngine):
    """An engine whose device holds one query."""

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        answers = super().score(queries)
        if len(queries) > 1:
            raise RowTooLarge("together")
        return answers


@pytest.fixture
def engine() -> FakeEngine:
    return Small()


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture
async def batcher(engine: FakeEngine, failures: list[BaseException], anyio_backend: str) -> AsyncIterator[Batcher]:
    metrics = Metrics()
    queue = AdmissionQueue(Budgets(), metrics, max_batch_tokens=100, max_queued_tokens=1000)
    made = Batcher(queue, EngineRunner(engine, metrics), keep=lambda _: None, on_failure=failures.append)
    yield made
    await made.close()


def request(*units: Unit, job: str = "job") -> PendingRequest:
    return PendingRequest(Client("", job), units)


async def test_a_request_without_units_is_done_immediately(batcher: Batcher, engine: FakeEngine) -> None:
    await batcher.submit(request(), None)
    assert not engine.calls


async def test_a_unit_joined_after_it_was_computed_needs_no_engine(batcher: Batcher, engine: FakeEngine) -> None:
    unit = Unit((b"a",), QUERY)
    await batcher.submit(request(unit), None)
    late = request(unit)
    await batcher.submit(late, None)
    assert late.results == [unit.result]
    assert engine.calls == [1]


async def test_a_unit_joined_after_it_failed_is_computed_again(batcher: Batcher, engine: FakeEngine) -> None:
    unit = Unit((b"a",), QUERY)
    engine.failure = RowTooLarge("too large")
    with pytest.raises(Refusal, match="too large"):
        await batcher.submit(request(unit), None)
    engine.failure = None
    assert unit.claim()  # and its next turn pays for it
    unit.unclaim()
    again = request(unit)
    await batcher.submit(again, None)
    assert again.results == [unit.result]


async def test_a_unit_is_computed_for_the_request_that_stays(batcher: Batcher, engine: FakeEngine) -> None:
    """Two units do not fit together. The client whose turn the second was leaves before it is computed alone."""
    small, shared = Unit((b"a",), QUERY), Unit((b"b",), QUERY)
    engine.gate.clear()
    first = asyncio.create_task(batcher.submit(request(small), None))
    leaving = asyncio.create_task(batcher.submit(request(shared, job="leaves"), None))
    while not engine.calls:
        await asyncio.sleep(0.001)
    stays = request(shared, job="stays")
    staying = asyncio.create_task(batcher.submit(stays, None))
    await asyncio.sleep(0)
    leaving.cancel()
    engine.gate.set()
    await asyncio.gather(first, staying)
    assert stays.results == [shared.result]
    assert engine.calls == [2, 1, 1]


async def test_an_engine_that_fails_is_never_called_again(
    batcher: Batcher, engine: FakeEngine, failures: list[BaseException]
) -> None:
    engine.gate.clear()
    engine.failure = RuntimeError("device lost")
    both = [asyncio.create_task(batcher.submit(request(Unit((), QUERY)), None)) for _ in range(2)]
    while not engine.calls:
        await asyncio.sleep(0.001)
    both.append(asyncio.create_task(batcher.submit(request(Unit((), QUERY)), None)))
    await asyncio.sleep(0)
    engine.gate.set()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the teacher's engine has failed"] * 3
    with pytest.raises(Refusal, match="has failed"):
        await batcher.submit(request(Unit((), QUERY)), None)
    assert failures == [engine.failure]
    assert len(engine.calls) == 1
    assert (batcher.queue.waiting, batcher.queue.tokens) == (0, 0)


class Partly(FakeEngine):
    """An engine elsewhere, which answers all queries but one."""

    refused = TokenSet([9], [[9]])

    def score(self, queries: Sequence[Query]) -> list[Answer | Refusal]:  # type: ignore[override]
        answers = super().score(queries)
        refusal = Refusal("overloaded", "later", retry_after_s=7)
        return [refusal if query == self.refused else answer for query, answer in zip(queries, answers, strict=True)]


@pytest.mark.parametrize("engine", [Partly()])
async def test_a_query_without_an_answer_takes_no_other_with_it(
    batcher: Batcher, engine: FakeEngine, failures: list[BaseException]
) -> None:
    engine.gate.clear()
    units = [Unit((), Partly.refused), Unit((), QUERY)]
    one, other = (asyncio.create_task(batcher.submit(request(unit), None)) for unit in units)
    await asyncio.sleep(0)
    engine.gate.set()
    with pytest.raises(Refusal) as refused:
        await one
    await other
    assert refused.value.retry_after_s == 7
    assert units[1].result is not None
    assert units[0].result is None
    assert not failures, "the engine goes on"
    assert units[0].claim(), "the next turn pays"
