"""Waits that fail after ten seconds."""

from collections.abc import Callable
from threading import Event
from time import sleep

SECONDS = 10  # then the test fails


def wait(event: Event) -> None:
    assert event.wait(SECONDS)


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(SECONDS * 100):
        if true():
            return
        sleep(0.01)
    raise AssertionError("the condition never held")
