"""Full collections of garbage: while nothing is under way."""

import asyncio
import time

import pytest

from pad_teacher.runtime import garbage
from pad_teacher.runtime.reading_thread import ReadingThread, Steps

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def collections(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of the full collections; one is due every hundredth of a second."""
    times: list[float] = []
    monkeypatch.setattr(garbage, "COLLECT_SECONDS", 0.01)
    monkeypatch.setattr(garbage.gc, "collect", lambda: times.append(time.monotonic()))
    return times


def works_on(until: asyncio.Event) -> Steps[None]:
    while not until.is_set():
        time.sleep(0.001)
        yield


async def test_nothing_is_collected_while_work_waits(collections: list[float]) -> None:
    thread, ended = ReadingThread(), asyncio.Event()
    collecting = asyncio.create_task(garbage.collect_while_idle(thread, lambda: True))
    working = asyncio.create_task(thread.work("one", 1.0, works_on(ended)))
    await asyncio.sleep(0.2)
    assert collections == []
    ended.set()
    await working
    while not collections:
        await asyncio.sleep(0.01)
    collecting.cancel()
    thread.close()


async def test_a_service_that_is_never_idle_collects_too(collections: list[float]) -> None:
    thread, began = ReadingThread(), time.monotonic()
    collecting = asyncio.create_task(garbage.collect_while_idle(thread, lambda: False))
    while not collections:
        await asyncio.sleep(0.01)
    assert collections[0] - began > garbage.MOST_WAITS * garbage.COLLECT_SECONDS
    collecting.cancel()
    thread.close()
