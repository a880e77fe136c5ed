"""The ASGI application: routes, middleware, and the lifespan that starts and stops the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pad_teacher.admission.keys import KeyRing
from pad_teacher.api.about import about_routes
from pad_teacher.api.body import BodyMemory
from pad_teacher.api.middleware import Authenticate, Observe, as_refusal, error_response
from pad_teacher.api.openapi import describe
from pad_teacher.api.routes import scoring_routes
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
    bodies = BodyMemory(settings.max_body_bytes)

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
        redoc_url=None,
    )
    app.openapi = lambda: describe(app)
    for kind in (Refusal, InvalidBody, HTTPException):
        app.add_exception_handler(kind, _refuse)
    ring = KeyRing(settings.keys) if settings.keys else None
    app.add_middleware(Authenticate, ring=ring, host=settings.host, anyone=settings.allow_anonymous)
    app.add_middleware(Observe, metrics=service.metrics)
    app.include_router(scoring_routes(service, bodies))
    app.include_router(about_routes(service))
    return app


async def _refuse(request: Request, error: Any) -> Response:
    refusal = as_refusal(error, request.state.request_id)
    request.state.logged["error"] = refusal.detail.code
    return error_response(refusal)
