"""The routes: bytes to request to plan to results to bytes, with everything heavy off the event loop."""

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from pad_teacher.admission.client import Client
from pad_teacher.admission.request import PendingRequest
from pad_teacher.api.call import UnderWay
from pad_teacher.api.chunked_json import JsonPieces, json_pieces
from pad_teacher.api.openapi import documented
from pad_teacher.errors import Refusal
from pad_teacher.scoring.completions import plan_completions
from pad_teacher.scoring.likelihood import plan_likelihood
from pad_teacher.scoring.plan import Budget, Plan
from pad_teacher.scoring.score import plan_score
from pad_teacher.scoring.selection import plan_selection
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.service import Service
from pad_wire import (
    Health,
    LikelihoodReply,
    LikelihoodRequest,
    ModelCard,
    ModelList,
    ScoreReply,
    ScoreRequest,
    SelectionReply,
    SelectionRequest,
    UsageReply,
)
from pad_wire.by_sets import parse_by_sets
from pad_wire.completions import CompletionReply, CompletionRequest
from pad_wire.text import WireModel

Request_ = TypeVar("Request_", bound=WireModel)
T = TypeVar("T")


def add_routes(app: FastAPI, service: Service) -> None:
    """Give ``app`` all routes of the service."""
    app.include_router(_scoring(service))
    app.include_router(_about(service))


def _scoring(service: Service) -> APIRouter:
    router = APIRouter(tags=["scoring"])
    routes: list[tuple[str, type[WireModel], type[WireModel], Callable[..., Plan], str]] = [
        ("likelihood", LikelihoodRequest, LikelihoodReply, plan_likelihood, "Log-likelihood of each response"),
        ("selection", SelectionRequest, SelectionReply, plan_selection, "Which response the teacher would pick"),
        ("score", ScoreRequest, ScoreReply, plan_score, "Likelihood and selection in one call"),
        ("completions", CompletionRequest, CompletionReply, plan_completions, "OpenAI's form, for scoring harnesses"),
    ]
    for name, request, reply, plan, summary in routes:
        router.add_api_route(
            f"/v1/{name}",
            _handler(service, request, plan),
            methods=["POST"],
            summary=summary,
            **documented(reply, request),
        )
    return router


def _handler(
    service: Service, model: type[Request_], plan: Callable[[Teacher, Request_, Budget], Plan]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handle(http: Request) -> Response:
        teacher, batcher = service.teacher, service.batcher
        client: Client = http.state.client
        batcher.queue.refuse_if_full(client)  # before anything is read or tokenised
        budget = Budget(service.settings.max_queued_tokens, service.settings.max_batch_tokens, _deadline(http))
        under_way = UnderWay(client, service.reuse)
        try:
            announced = _announced(http, service.settings.max_body_bytes)
            with service.body_memory(announced):
                body = await _read(http, announced)

                def read() -> Request_:
                    try:
                        return parse_by_sets(model, body)
                    finally:
                        body.release()  # a refusal's traceback would keep it

                def begin() -> PendingRequest:
                    return under_way.begin(read, lambda asked: plan(teacher, asked, budget))

                async def score() -> None:
                    await batcher.submit(await service.off_loop(begin), budget.deadline)

                await _unless_client_leaves(http, score(), budget.left)
                pieces, usage, reused = await service.off_loop(partial(under_way.finish, service.metrics))
        finally:
            service.let_go(under_way.drop)
        service.count(client, usage)
        http.state.logged.update(tokens=usage.total_tokens, reused_tokens=reused)
        return JsonPieces(pieces)

    return handle


def _about(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/v1/models", summary="The teacher, its fingerprint and its limits", **documented(ModelList))
    async def models() -> Response:
        teacher = service.teacher
        card = ModelCard(
            id=teacher.id.model,
            created=service.started,
            fingerprint=teacher.id.fingerprint,
            engine=teacher.engine.name,
            dtype=teacher.engine.dtype,
            end_of_turn=teacher.encoder.decode([teacher.encoder.end_of_turn]),
            limits=service.limits(),
        )
        return _json(ModelList(data=[card]))

    @router.get("/v1/usage", summary="What your key may use, and what each of its jobs did", **documented(UsageReply))
    async def usage(request: Request) -> Response:
        counted = service.usage_of(request.state.client)
        return JsonPieces(await asyncio.to_thread(lambda: json_pieces(counted())))

    @router.get("/v1/health/live", summary="The process answers", **documented(Health))
    async def live() -> Response:
        return _json(Health(status="live"))

    @router.get("/v1/health/ready", summary="The golden score has passed", **documented(Health))
    async def ready() -> Response:
        return _json(service.health(), 200 if service.status == "ready" else 503)

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _deadline(request: Request) -> float | None:
    """``X-Deadline-Ms`` on the monotonic clock."""
    value = request.headers.get("x-deadline-ms")
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,8}", value) or not 0 < int(value) <= 86_400_000:
        message = "X-Deadline-Ms is a whole number of milliseconds, at most a day"
        raise Refusal("invalid_request", message, where="X-Deadline-Ms")
    return time.monotonic() + int(value) / 1000


def _announced(request: Request, limit: int) -> int:
    """The body's size as announced, or the largest there can be; refused where that is too large already."""
    size = int(request.headers.get("content-length", limit))
    if size > limit:
        raise _too_large(limit)
    return size


def _too_large(limit: int) -> Refusal:
    return Refusal("body_too_large", f"the body is larger than {limit} bytes; split the request")


async def _read(request: Request, size: int) -> memoryview:
    """The body, refused as soon as it is known to be larger than ``size``."""
    # Room for all at once, which costs nothing before it is written to: bytes that grow are copied now and then, and
    # to copy 16 MB would hold up the event loop.
    room = np.empty(size, np.uint8).data
    end = 0
    async for chunk in request.stream():
        if end + len(chunk) > size:
            raise _too_large(size)
        room[end : end + len(chunk)] = chunk
        end += len(chunk)
    return room[:end]


async def _unless_client_leaves(request: Request, work: Awaitable[T], left: threading.Event) -> T:
    """The work's results; where the client hangs up first, ``left`` is set and the work is cancelled.

    Raises:
        ClientDisconnect: nobody waits for the answer any more.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_client_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        if not working.done():
            left.set()  # planning in its thread ends too
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
        del working, leaving  # a refusal's traceback holds this frame, and the task the refusal


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(model: WireModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_none=True), status, media_type="application/json")
