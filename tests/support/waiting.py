"""Waits with an end."""

from collections.abc import Callable
from threading import Event
from time import sleep

SECONDS = 10  # until a test that hangs fails


def wait(event: Event) -> None:
    assert event.wait(SECONDS)


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(SECONDS * 100):
        if true():
            return
        sleep(0.01)
    raise AssertionError("it never was")
