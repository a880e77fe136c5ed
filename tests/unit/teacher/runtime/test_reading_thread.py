"""The reading thread: work in turns, calls of the service, and work that nobody waits for any more."""

import asyncio
import time

import pytest

from pad_teacher.runtime.reading_thread import TURN_SECONDS, ReadingThread, Steps, Stopwatch
from pad_teacher.runtime.refused_time import SHARE

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def steps(count: int, seconds: float = TURN_SECONDS, closed: list[str] | None = None) -> Steps[int]:
    try:
        for _ in range(count):
            time.sleep(seconds)
            yield
    finally:
        if closed is not None:
            closed.append("closed")
    return count


async def test_short_work_need_not_wait_for_long_work_of_others() -> None:
    thread = ReadingThread()
    long = asyncio.create_task(thread.work("greedy", 1.0, steps(10_000)))
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(thread.work("polite", 1.0, steps(3)), 10) == 3
    assert await asyncio.wait_for(thread.run(lambda: "own"), 10) == "own"
    assert not long.done()
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)
    thread.close()


async def test_work_that_nobody_waits_for_is_closed() -> None:
    thread, closed = ReadingThread(), list[str]()
    left = asyncio.create_task(thread.work("one", 1.0, steps(10_000, closed=closed)))
    await asyncio.sleep(0.05)
    left.cancel()
    assert await asyncio.wait_for(thread.work("one", 1.0, steps(1)), 10) == 1
    assert closed == ["closed"]
    thread.close()


async def test_an_error_comes_to_the_one_who_waits() -> None:
    def fails() -> Steps[None]:
        yield
        raise LookupError("no such thing")

    thread = ReadingThread()
    with pytest.raises(LookupError, match="no such thing"):
        await thread.work("one", 1.0, fails())
    assert await thread.work("one", 1.0, steps(1)) == 1
    thread.close()


async def test_work_of_a_refused_owner_waits_and_others_do_not() -> None:
    thread, spent = ReadingThread(), Stopwatch()
    thread.refused("greedy", 100.0)
    slow = asyncio.create_task(thread.work("greedy", 1.0, steps(25), spent))  # 0.1 s of work, in a second
    for _ in range(20):
        began = time.monotonic()
        assert await asyncio.wait_for(thread.work("polite", 0.01, steps(1, 0)), 10) == 1
        assert await asyncio.wait_for(thread.run(lambda: "own"), 10) == "own"
        assert time.monotonic() - began < 10 * TURN_SECONDS / SHARE
    assert not slow.done()
    assert await asyncio.wait_for(slow, 60) == 25
    assert spent.seconds >= 25 * TURN_SECONDS
    thread.close()
