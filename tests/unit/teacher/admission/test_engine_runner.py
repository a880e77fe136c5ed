"""The engine runner: answers, and the measured rate."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from pad_teacher.admission.engine_runner import EngineRunner
from pad_teacher.engines.base import EngineFailed, RowTooLarge
from pad_teacher.engines.queries import Answer, Query, TokenSet
from pad_teacher.runtime.metrics import Metrics
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

QUERY = TokenSet([1], [[2, 3]])


class Timed(FakeEngine):
    """An engine whose batches take ``seconds`` on a clock that only they move."""

    concurrent_batches = 2

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.now = 0.0

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        answers = super().score(queries)
        self.now += self.seconds
        return answers


async def test_the_answers_are_the_engines(engine: FakeEngine) -> None:
    runner = EngineRunner(engine, Metrics())
    answers = await runner.run([QUERY, QUERY])
    expected = engine.token_logprobs([QUERY, QUERY])
    assert np.array_equal(answers[1][0], expected[1][0])  # type: ignore[index]
    await runner.close()


async def test_the_rate_is_a_moving_average_of_batches() -> None:
    engine = Timed(seconds=1.0)
    runner = EngineRunner(engine, Metrics(), clock=lambda: engine.now)
    assert runner.seconds_for(30) is None
    await runner.run([QUERY] * 10)  # 30 tokens in 1 second
    assert runner.seconds_for(30) == pytest.approx(1.0)
    engine.seconds = 2.0
    await runner.run([QUERY] * 10)  # 15 tokens a second
    assert runner.seconds_for(27) == pytest.approx(1.0)  # 0.8 * 30 + 0.2 * 15
    await runner.close()


async def test_seconds_in_which_batches_overlap_count_once() -> None:
    engine = Timed(seconds=1.0)
    runner = EngineRunner(engine, Metrics(), clock=lambda: engine.now)
    engine.gate.clear()
    both = [asyncio.create_task(runner.run([QUERY] * 10)) for _ in range(2)]
    while len(engine.calls) < 2:
        await asyncio.sleep(0.001)
    engine.gate.set()
    await asyncio.gather(*both)
    assert runner.seconds_for(30) <= 1.0  # type: ignore[operator]  # 60 tokens in 2 seconds, not in 3
    await runner.close()


@pytest.mark.parametrize("failure", [RowTooLarge("too large"), RuntimeError("device lost")])
async def test_an_error_of_the_engine_is_raised_and_not_measured(engine: FakeEngine, failure: Exception) -> None:
    runner = EngineRunner(engine, Metrics())
    engine.failure = failure
    with pytest.raises(type(failure), match=str(failure)):
        await runner.run([QUERY])
    assert runner.seconds_for(1) is None
    await runner.close()


async def test_a_dead_engine_is_noticed(engine: FakeEngine) -> None:
    runner = EngineRunner(engine, Metrics())
    runner.check()
    engine.dead = True
    with pytest.raises(EngineFailed):
        runner.check()
    await runner.close()
