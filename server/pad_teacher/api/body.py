"""A request's body: its size, the memory that all bodies share, its deadline, and a client that hangs up."""

import asyncio
import math
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from pad_teacher.admission.client import Client
from pad_teacher.admission.queue_room import QueueRoom
from pad_teacher.errors import Refusal

T = TypeVar("T")

MAX_BODIES = 16  # bodies of the largest size that are in memory at the same time
MAX_DEADLINE_MS = 86_400_000  # a day


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The largest body; seconds in which nothing of it arrives, and for the whole of it; requests under way."""

    max_bytes: int
    idle_seconds: float
    seconds: float
    requests: int


class BodyMemory:
    """Room for all requests under way, and memory for their bodies. Lives on the event loop.

    - A body takes the bytes that have arrived of it, and gives them back once its result is there.
    - All bodies together take at most ``MAX_BODIES`` times the largest size, and there are at most so many requests
      as the limits say. Past that, a key (or a job if there are no keys) that holds less than its share by weight
      still has room.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self._room = QueueRoom(MAX_BODIES * limits.max_bytes)
        self._requests = QueueRoom(limits.requests)

    @property
    def is_empty(self) -> bool:
        """Whether no request is under way."""
        return not self._requests.tokens

    @contextmanager
    def of(self, client: Client) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes for a body of ``client``; in the end they are all given back.

        It raises a Refusal: ``overloaded``, if there is no room for them.

        Raises:
            Refusal: ``overloaded``, if there is no room for one more request.
        """
        owner, weight, held = client.owner, client.limits.weight, 0

        def take(size: int) -> None:
            nonlocal held
            if not self._room.has_room(owner, weight, size):
                raise Refusal("overloaded", "too many large requests at once", retry_after_s=1)
            self._room.hold(owner, weight, size)
            held += size

        if not self._requests.has_room(owner, weight, 1):
            raise Refusal("overloaded", "too many requests at once", retry_after_s=1)
        self._requests.hold(owner, weight, 1)
        try:
            yield take
        finally:
            self._requests.free(owner, 1)
            if held:
                self._room.free(owner, held)


@asynccontextmanager
async def received_body(
    http: Request, memory: BodyMemory, largest: int, deadline: float | None
) -> AsyncIterator[bytearray]:
    """The body of ``http``, of at most ``largest`` bytes, whose memory is held until the block ends.

    Raises:
        Refusal: ``body_too_large``, as soon as that is known; ``overloaded``; ``request_timeout`` if it comes too
            slowly; ``deadline_exceeded``.
    """
    if int(http.headers.get("content-length", 0)) > largest:
        raise _too_large(largest)
    with memory.of(http.state.client) as take:
        yield await _read(http, replace(memory.limits, max_bytes=largest), take, deadline)


def deadline_of(http: Request) -> float | None:
    """``X-Deadline-Ms`` from the request's first byte, on the clock of ``time.monotonic``; None without a deadline.

    Raises:
        Refusal: ``invalid_request``.
    """
    value = http.headers.get("x-deadline-ms")
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,8}", value) or not 0 < int(value) <= MAX_DEADLINE_MS:
        message = "X-Deadline-Ms is a whole number of milliseconds, at most a day"
        raise Refusal("invalid_request", message, where="X-Deadline-Ms")
    began: float = getattr(http.state, "began", time.monotonic())  # the connection noted the first byte
    return began + int(value) / 1000


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


async def _read(http: Request, limits: BodyLimits, take: Callable[[int], None], deadline: float | None) -> bytearray:
    body = bytearray()
    ends = time.monotonic() + limits.seconds
    chunks = http.stream()
    while True:
        now = time.monotonic()
        until = min(now + limits.idle_seconds, ends, math.inf if deadline is None else deadline)
        try:
            async with asyncio.timeout(max(0.0, until - now)):
                chunk = await anext(chunks, None)
        except TimeoutError:
            if until == deadline:
                raise Refusal("deadline_exceeded", "the deadline passed while the body was received") from None
            raise Refusal("request_timeout", "the body came too slowly") from None
        if chunk is None:
            return body
        if len(body) + len(chunk) > limits.max_bytes:
            raise _too_large(limits.max_bytes)
        take(len(chunk))
        body += chunk


async def _client_left(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
