"""A request's body: its size, the memory that all bodies share, its deadline, and a client that hangs up."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from pad_teacher.errors import Refusal

T = TypeVar("T")

MAX_BODIES = 16  # bodies of the largest size that are in memory at the same time
MAX_DEADLINE_MS = 86_400_000  # a day


class BodyMemory:
    """Memory for the bodies of all requests under way. Lives on the event loop.

    - A body takes its announced size, or the largest size if it announces none.
    - The memory is taken at the body's first byte, and given back once its result is there.
    - All bodies together take at most ``MAX_BODIES`` times the largest size.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no request is under way."""
        return not self._bytes

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Take ``size`` bytes, and give them back in the end.

        Raises:
            Refusal: ``overloaded``, if other requests hold too much.
        """
        if self._bytes + size > MAX_BODIES * self.max_body_bytes:
            raise Refusal("overloaded", "too many large requests at once", retry_after_s=1)
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size


@asynccontextmanager
async def received_body(http: Request, memory: BodyMemory) -> AsyncIterator[bytearray]:
    """The body of ``http``, whose memory is held until the block ends.

    Raises:
        Refusal: ``body_too_large``, as soon as that is known; ``overloaded``.
    """
    size = int(http.headers.get("content-length", memory.max_body_bytes))
    if size > memory.max_body_bytes:
        raise _too_large(memory.max_body_bytes)
    with memory.hold(size):
        yield await _read(http, size)


def deadline_of(http: Request) -> float | None:
    """``X-Deadline-Ms`` on the clock of ``time.monotonic``; None if the request has no deadline.

    Raises:
        Refusal: ``invalid_request``.
    """
    value = http.headers.get("x-deadline-ms")
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,8}", value) or not 0 < int(value) <= MAX_DEADLINE_MS:
        message = "X-Deadline-Ms is a whole number of milliseconds, at most a day"
        raise Refusal("invalid_request", message, where="X-Deadline-Ms")
    return time.monotonic() + int(value) / 1000


async def unless_client_leaves(http: Request, work: Awaitable[T], left: threading.Event) -> T:
    """The result of ``work``. If the client hangs up first, set ``left`` and cancel the work.

    Raises:
        ClientDisconnect: the client has hung up.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_client_left(http))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        if not working.done():
            left.set()  # planning, which runs in a thread, ends too
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
        del working, leaving  # a refusal's traceback holds this frame, and the task holds the refusal


def _too_large(limit: int) -> Refusal:
    return Refusal(
        "body_too_large",
        f"the body is larger than {limit} bytes: send fewer or shorter sets, or raise the teacher's --max-body-bytes",
    )


async def _read(http: Request, size: int) -> bytearray:
    body = bytearray()
    async for chunk in http.stream():
        if len(body) + len(chunk) > size:
            raise _too_large(size)
        body += chunk
    return body


async def _client_left(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
