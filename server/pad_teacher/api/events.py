"""``/v1/events``: what the console shows of the running service, once a second, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import Counter
from pydantic_core import to_json
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pad_teacher.admission.client import Client
from pad_teacher.errors import Refusal
from pad_teacher.service import Service

SECONDS = 1.0  # between two events
MOST_EVENTS = 60  # of one stream: then the page asks again, and its key is checked again
MOST_STREAMS = 32  # at the same time, and a quarter of the connections at most
MOST_JOBS = 100  # of an event, those with the most tokens


class EventStreams:
    """The streams of events of one service. Lives on the event loop.

    - A stream ends when the service drains or has failed, so that it does not wait for pages; new ones are refused
      then.
    - There are never more than ``most``.
    """

    def __init__(self, service: Service, most: int) -> None:
        self._service = service
        self._most = most
        self._open = 0

    async def open(self, client: Client) -> Response:
        """A stream for ``client``, which begins, or is refused as ``overloaded``, when it is sent.

        Raises:
            Refusal: ``not_ready`` while the service drains; ``engine_failed`` once it has failed.
        """
        self._service.refuse_if_draining()
        self._service.refuse_if_failed()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Counted(self, self._events(client), headers=headers, media_type="text/event-stream")

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place among the streams, from before the event loop runs another request until the stream has ended.

        Raises:
            Refusal: ``overloaded`` if there are too many streams.
        """
        if self._open >= self._most:
            raise Refusal("overloaded", "too many pages watch this service", retry_after_s=10)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def _events(self, client: Client) -> AsyncIterator[bytes]:
        for _ in range(MOST_EVENTS):
            state = await asyncio.to_thread(snapshot(self._service, client))
            yield b"data: " + to_json(state) + b"\n\n"
            if state["status"] in ("draining", "failed"):
                return
            await asyncio.sleep(SECONDS)


class _Counted(StreamingResponse):
    """A stream that takes its place when it is sent: a reply that never is takes none, and none is taken twice."""

    def __init__(self, streams: EventStreams, events: AsyncIterator[bytes], **how: Any) -> None:
        super().__init__(events, **how)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.one():
            await super().__call__(scope, receive, send)


def snapshot(service: Service, client: Client) -> Callable[[], dict[str, Any]]:
    """The state of the service as ``client`` may see it: of jobs and budgets, only those of its own key.

    Returns a callable, because summing up many jobs belongs in a thread.
    """
    metrics, health, usage = service.metrics, service.health(), service.usage.reply_for(client)
    waits = sorted(metrics.waits)
    teacher = service.running.teacher if service.status in ("ready", "draining") and service.is_loaded else None
    state: dict[str, Any] = {
        "status": health.status,
        "reason": health.reason,
        "teacher": teacher and teacher.id.model_dump(),
        "golden_difference_nats": teacher and teacher.golden_difference_nats,
        "uptime_seconds": service.uptime_seconds,
        "tokens_scored": service.usage.tokens,
        "queued_tokens": service.running.batcher.queue.tokens if teacher else 0,
        "queued_requests": service.running.batcher.queue.waiting if teacher else 0,
        "max_queued_tokens": service.settings.max_queued_tokens,
        "waits": len(waits),
        "wait_p50_seconds": quantile(waits, 0.5),
        "wait_p99_seconds": quantile(waits, 0.99),
        "cache_hits": _value(metrics.cache_hits),
        "cache_misses": _value(metrics.cache_misses),
        "shared_in_flight": _value(metrics.shared_in_flight),
    }

    def whole() -> dict[str, Any]:
        mine = usage()
        jobs = sorted(mine.jobs, key=lambda job: -job.total_tokens)[:MOST_JOBS]
        shown = {"key": mine.key.model_dump(), "jobs": [job.model_dump() for job in jobs]}
        return state | shown | {"jobs_in_all": len(mine.jobs)}

    return whole


def quantile(ordered: list[float], share: float) -> float | None:
    """The value below or at which ``share`` of the ordered values lie; None if there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def event_routes(service: Service) -> APIRouter:
    """The route of events of ``service``."""
    streams = EventStreams(service, min(MOST_STREAMS, max(1, service.settings.max_connections // 4)))
    router = APIRouter(include_in_schema=False)

    @router.get("/v1/events")
    async def events(request: Request) -> Response:
        return await streams.open(request.state.client)

    return router


def _value(counter: Counter) -> int:
    return int(next(iter(counter.collect())).samples[0].value)
