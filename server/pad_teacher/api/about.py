"""The routes that describe the service: models, usage, health and metrics."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from pad_teacher.api.chunked_json import ChunkedReply, Chunks, json_chunks
from pad_teacher.api.pages.openapi import health_options, route_options
from pad_teacher.errors import Refusal
from pad_teacher.scoring.questions import MAX_ORDERS
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.service import Service
from pad_teacher.settings import ServeSettings
from pad_wire import Health, Limits, ModelCard, ModelList, UsageReply
from pad_wire.scoring import MAX_SETS
from pad_wire.service import CAPABILITIES
from pad_wire.sets import MAX_RESPONSES
from pad_wire.text import WireModel


def about_routes(service: Service) -> APIRouter:
    """The routes that describe ``service``."""
    router = APIRouter(tags=["service"])

    listed = route_options("models", ModelList, errors=("not_ready", "engine_failed"))
    one = route_options("model", ModelCard, errors=("not_ready", "engine_failed", "not_found", "invalid_request"))
    used = route_options("usage", UsageReply)

    @router.get("/v1/models", summary="The teacher, its fingerprint and its limits", **listed)
    async def models() -> Response:
        return _json(ModelList(data=[_card(service)]))

    @router.get("/v1/models/{model:path}", summary="The same by its name, in OpenAI's form", **one)
    async def model(model: Annotated[str, Path(description="the teacher's name", examples=["teacher"])]) -> Response:
        card = _card(service)
        if model != card.id:
            raise Refusal("not_found", "this service holds another model; see /v1/models", where="model")
        return _json(card)

    @router.get("/v1/usage", summary="Limits of your key, and usage of each of its jobs", **used)
    async def usage(request: Request) -> Response:
        reply = service.usage.reply_for(request.state.client)
        return ChunkedReply(Chunks.of_json(await asyncio.to_thread(lambda: list(json_chunks(reply())))))

    async def live() -> Response:
        return _json(Health(status="live"))

    async def ready() -> Response:
        return _json(service.health(), 200 if service.status == "ready" else 503)

    for path, name, answer, summary in (
        ("/v1/health/live", "live", live, "The process answers"),
        ("/v1/health/ready", "ready", ready, "The golden score has passed"),
        ("/health", "health", ready, "The same as ready, at the path that load balancers ask"),
    ):
        router.add_api_route(path, answer, summary=summary, **health_options(name))
        router.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)

    @router.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if not request.state.client.sees_metrics:
            message = "this key sees its own usage, at /v1/usage; a key made with key add --metrics sees all"
            raise Refusal("forbidden", message)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _card(service: Service) -> ModelCard:
    teacher = service.running.teacher
    common: dict[str, Any] = {
        "id": teacher.id.model,
        "created": service.started,
        "fingerprint": teacher.id.fingerprint,
        "engine": teacher.engine.name,
        "question": teacher.question,
    }
    if not isinstance(teacher, Teacher):
        limits = _limits(service.settings, teacher.max_options)
        return ModelCard(**common, capabilities=["selection"], estimator=teacher.estimator, limits=limits)
    return ModelCard(
        **common,
        capabilities=list(CAPABILITIES),
        dtype=teacher.engine.dtype,
        end_of_turn=teacher.encoder.decode([teacher.encoder.end_of_turn]),
        tokenizer=teacher.tokenizer_digest,
        reference=teacher.reference,
        limits=_limits(service.settings, len(teacher.letter_ids), teacher.engine.max_context_tokens),
    )


def _limits(settings: ServeSettings, max_options: int, max_context_tokens: int | None = None) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_sets=MAX_SETS,
        max_responses=MAX_RESPONSES,
        max_options=max_options,
        max_orders=MAX_ORDERS,
        max_context_tokens=max_context_tokens,
        max_queued_tokens=settings.max_queued_tokens,
    )


def _json(model: WireModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_none=True), status, media_type="application/json")
