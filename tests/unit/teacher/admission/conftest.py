"""What the tests of admission share: asyncio, as the service runs on it, and a fake engine."""

import pytest

from support.fakes import FakeEngine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()
