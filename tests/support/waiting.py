"""Waits that fail after ten seconds, or as many as are given."""

from collections.abc import Callable
from threading import Event
from time import sleep

SECONDS = 10  # then the test fails


def wait(event: Event) -> None:
    assert event.wait(SECONDS)


def wait_until(true: Callable[[], bool], seconds: int = SECONDS) -> None:
    for _ in range(seconds * 100):
        if true():
            return
        sleep(0.01)
    raise AssertionError("the condition never held")
