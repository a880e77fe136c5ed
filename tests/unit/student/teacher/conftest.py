"""A clock that the client's sleeps move, and two replicas under it."""

import pytest

from support.teacher_fleet import Clock, Fleet


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock().install(monkeypatch)


@pytest.fixture
def fleet(clock) -> Fleet:
    return Fleet(clock)
