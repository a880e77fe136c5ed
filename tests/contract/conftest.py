"""A running application around a fake teacher, called without a network."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
import structlog
from fakes import FakeEngine, fake_teacher

from pad_teacher.app import create_app
from pad_teacher.service import Service
from pad_teacher.settings import ServeSettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Ten thousand requests would print as many lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


Running = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, Service]]]


@pytest.fixture
def running(engine: FakeEngine) -> Running:
    """Start the application with some settings changed."""

    @asynccontextmanager
    async def run(load: Any = None, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
        service = Service(ServeSettings(model="fake", **settings), load or (lambda: fake_teacher(engine)))
        app = create_app(service)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010") as client,
        ):
            while load is None and service.status == "starting":
                await anyio.sleep(0.001)
            yield client, service

    return run


@pytest.fixture
async def client(running: Running, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running() as (client, _):
        yield client
