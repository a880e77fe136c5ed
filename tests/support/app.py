"""The application for contract tests: how it starts, its keys, one small request, its logs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import structlog

from pad_teacher.admission.keys import add_key
from pad_teacher.runtime import logs
from pad_teacher.service import Service

Running = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, Service]]]
"""Start the application with some settings, as the fixture ``running`` does."""

ExpectedLogLikelihood = Callable[[list[int], list[int]], Any]
"""Log-likelihood of a response after a prompt, in nats, to compare a reply with by ``==``."""

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}


def bearer(path: Path, name: str, **limits: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {add_key(path / 'keys', name, **limits)}"}


async def score(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> httpx.Response:
    return await client.post("/v1/likelihood", json=ONE, headers=headers)


@contextmanager
def full_logs() -> Iterator[None]:
    """Log as the service does; restore the former logging at the end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("debug")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
