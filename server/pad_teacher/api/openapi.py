"""The OpenAPI description. Routes read raw bytes, so FastAPI cannot derive their models itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from pad_wire import (
    STATUS,
    ErrorReply,
    Health,
    LikelihoodReply,
    LikelihoodRequest,
    ModelList,
    ScoreReply,
    ScoreRequest,
    SelectionReply,
    SelectionRequest,
    UsageReply,
)
from pad_wire.completions import CompletionReply, CompletionRequest
from pad_wire.text import WireModel

_REF = "#/components/schemas/{model}"
_MODELS = (
    *(LikelihoodRequest, SelectionRequest, ScoreRequest, CompletionRequest),
    *(LikelihoodReply, SelectionReply, ScoreReply, CompletionReply),
    *(ModelList, UsageReply, Health, ErrorReply),
)


def route_options(reply: type[WireModel], request: type[WireModel] | None = None) -> dict[str, Any]:
    """Options of a route that takes ``request`` as JSON, if any, and answers with ``reply`` or an error."""
    if reply is Health:  # needs no key, and has the same shape for both statuses
        states = {status: {"description": "Health", **_content(Health)} for status in (200, 503)}
        return {"response_model": None, "responses": states, "openapi_extra": {"security": []}}
    errors = sorted({status for code, status in STATUS.items() if request or code in ("unauthorized", "not_ready")})
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "Success", **_content(reply)}}
    for status in errors:
        codes = ", ".join(code for code, value in STATUS.items() if value == status)
        responses[status] = {"description": codes, **_content(ErrorReply)}
    options: dict[str, Any] = {"response_model": None, "responses": responses}
    if request:
        options["openapi_extra"] = {"requestBody": {"required": True, **_content(request)}}
    return options


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app``, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
        document.setdefault("components", {})["schemas"] = dict(sorted(schemas["$defs"].items()))
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _content(model: type[WireModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}}
