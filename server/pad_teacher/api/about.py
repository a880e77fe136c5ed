"""The routes that describe the service: models, usage, health and metrics."""

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from pad_teacher.api.chunked_json import ChunkedJson, json_chunks
from pad_teacher.api.openapi import route_options
from pad_teacher.scoring.questions import MAX_ORDERS
from pad_teacher.service import Service
from pad_wire import Health, Limits, ModelCard, ModelList, UsageReply
from pad_wire.scoring import MAX_SETS
from pad_wire.sets import MAX_RESPONSES
from pad_wire.text import WireModel


def about_routes(service: Service) -> APIRouter:
    """The routes that describe ``service``."""
    router = APIRouter(tags=["service"])

    @router.get("/v1/models", summary="The teacher, its fingerprint and its limits", **route_options(ModelList))
    async def models() -> Response:
        return _json(ModelList(data=[_card(service)]))

    @router.get("/v1/usage", summary="Limits of your key, and usage of each of its jobs", **route_options(UsageReply))
    async def usage(request: Request) -> Response:
        reply = service.usage.reply_for(request.state.client)
        return ChunkedJson(await asyncio.to_thread(lambda: json_chunks(reply())))

    @router.get("/v1/health/live", summary="The process answers", **route_options(Health))
    async def live() -> Response:
        return _json(Health(status="live"))

    @router.get("/v1/health/ready", summary="The golden score has passed", **route_options(Health))
    async def ready() -> Response:
        return _json(service.health(), 200 if service.status == "ready" else 503)

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _card(service: Service) -> ModelCard:
    teacher, settings = service.running.teacher, service.settings
    return ModelCard(
        id=teacher.id.model,
        created=service.started,
        fingerprint=teacher.id.fingerprint,
        engine=teacher.engine.name,
        dtype=teacher.engine.dtype,
        end_of_turn=teacher.encoder.decode([teacher.encoder.end_of_turn]),
        question=teacher.question,
        limits=Limits(
            max_body_bytes=settings.max_body_bytes,
            max_sets=MAX_SETS,
            max_responses=MAX_RESPONSES,
            max_options=len(teacher.letter_ids),
            max_orders=MAX_ORDERS,
            max_context_tokens=teacher.engine.max_context_tokens,
            max_queued_tokens=settings.max_queued_tokens,
        ),
    )


def _json(model: WireModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_none=True), status, media_type="application/json")
