"""The ASGI application: routes, middleware, and the lifespan that starts and stops the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pad_teacher.admission.key_ring import KeyRing
from pad_teacher.api.about import about_routes
from pad_teacher.api.body import BodyLimits, BodyMemory
from pad_teacher.api.events import event_routes
from pad_teacher.api.middleware import Authenticate, Observe, as_refusal, error_response
from pad_teacher.api.pages.openapi import describe
from pad_teacher.api.pages.routes import page_routes
from pad_teacher.api.routes import scoring_routes
from pad_teacher.api.wrong_route import Routes, wrong_method
from pad_teacher.errors import Refusal
from pad_teacher.runtime.garbage import collect_while_idle
from pad_teacher.service import Service
from pad_wire.validation import InvalidBody


def create_app(service: Service) -> FastAPI:
    """The application that serves ``service``; its lifespan starts and stops it.

    Raises:
        KeyFileError: if the settings name a key file that cannot be read.
    """
    settings = service.settings
    requests = max(1, settings.max_connections // 2)  # so that one key's requests never take all connections
    idle, whole = settings.body_idle_seconds, settings.body_seconds
    bodies = BodyMemory(BodyLimits(settings.max_body_bytes, idle, whole, requests))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        collecting = asyncio.create_task(collect_while_idle(service.reading, lambda: bodies.is_empty), name="garbage")
        yield
        collecting.cancel()
        await service.stop()

    app = FastAPI(
        title="pad-service",
        version=version("pad-service"),
        description="Response-set scoring by one resident teacher, for Preference-Aligned Distillation.",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # with it go FastAPI's pages, which load scripts from another host
    )
    app.openapi = lambda: describe(app)
    for kind in (Refusal, InvalidBody):
        app.add_exception_handler(kind, _refuse)
    ring = KeyRing(settings.keys) if settings.keys else None
    if ring:
        service.metrics.key_file_wrong.set_function(lambda: float(ring.problem is not None))
    app.add_middleware(Authenticate, ring=ring, host=settings.host, anyone=settings.allow_anonymous)
    app.add_middleware(Observe, service=service)
    app.include_router(scoring_routes(service, bodies))
    app.include_router(about_routes(service))
    app.include_router(event_routes(service))
    app.include_router(page_routes(app.openapi, needs_key=ring is not None))
    _refuse_wrong_routes(app)
    return app


def _refuse_wrong_routes(app: FastAPI) -> None:
    """Answer what no route takes with the routes and methods that there are."""
    routes = Routes(app.routes)

    async def refuse_route(request: Request, error: Any) -> Response:
        if error.status_code == 405:
            allowed = routes.allowed(request.url.path)
            reply = await _refuse(request, wrong_method(allowed))
            reply.headers["Allow"] = ", ".join(allowed)
            return reply
        return await _refuse(request, routes.refusal_of(request.url.path) if error.status_code == 404 else error)

    app.add_exception_handler(HTTPException, refuse_route)


async def _refuse(request: Request, error: Any) -> Response:
    refusal = as_refusal(error, request.state.request_id)
    request.state.logged["error"] = refusal.detail.code
    return error_response(refusal)
