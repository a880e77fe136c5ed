"""The OpenAPI description. Routes read raw bytes, so FastAPI cannot derive their models itself."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from pad_teacher.api.pages.assets import text_of
from pad_wire import (
    STATUS,
    ErrorCode,
    ErrorReply,
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
from pad_wire.completions import CompletionReply, CompletionRequest
from pad_wire.text import WireModel
from pad_wire.token_logprobs import SAFETENSORS, TokenLogprobsReply, TokenLogprobsRequest

_REF = "#/components/schemas/{model}"
_MODELS = (
    *(LikelihoodRequest, SelectionRequest, ScoreRequest, CompletionRequest, TokenLogprobsRequest),
    *(LikelihoodReply, SelectionReply, ScoreReply, CompletionReply, TokenLogprobsReply),
    *(ModelList, ModelCard, UsageReply, Health, ErrorReply),
)


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}


_SHORT_TEXT = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}
_SENT = {
    "X-Request-Id": _header("A name for the request, for the log and the reply; by default a new one", _SHORT_TEXT),
    "X-Job-Id": _header("The job whose share and usage this is", {**_SHORT_TEXT, "default": "default"}),
    "X-Deadline-Ms": _header(
        "Milliseconds after which nobody needs the answer", {"type": "integer", "minimum": 1, "maximum": 86_400_000}
    ),
}
_ANSWERED = {"X-Request-Id": _header("The request's name", _SHORT_TEXT)}
_RETRY_AFTER = {"Retry-After": _header("Seconds to wait before the next try", {"type": "integer", "minimum": 1})}
_SCHEME = {"WWW-Authenticate": _header("How to send a key", {"type": "string"})}
# Any route may answer these: a key is checked first, and a bug is answered last.
_EVERYWHERE: frozenset[ErrorCode] = frozenset({"unauthorized", "forbidden", "internal"})


def health_options(operation: str) -> dict[str, Any]:
    """Options of a health route: it needs no key, and has one shape for both statuses."""
    examples: list[Any] = [examples_of(operation)["reply"], {"status": "starting", "reason": "loading the model"}]
    states = {
        status: {"description": "Health", **_content(Health, example), "headers": _ANSWERED}
        for status, example in zip((200, 503), examples, strict=True)
    }
    extra: dict[str, Any] = {"security": [], "parameters": _parameters("X-Request-Id")}
    return {"operation_id": operation, "response_model": None, "responses": states, "openapi_extra": extra}


def route_options(
    operation: str,
    reply: type[WireModel],
    request: type[WireModel] | None = None,
    errors: Iterable[ErrorCode] = (),
    *,
    tensors: bool = False,
) -> dict[str, Any]:
    """Options of a route that takes ``request`` as JSON, if any, and answers with ``reply`` or an error.

    With ``tensors`` the reply may be safetensors instead. A route with a ``request`` may answer every error;
    another one those of ``errors``, and those of all routes.
    """
    example = examples_of(operation)
    codes = set(STATUS) if request else _EVERYWHERE | set(errors)
    headers = ("X-Request-Id", "X-Job-Id", "X-Deadline-Ms") if request else ("X-Request-Id",)
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "Success", **_content(reply, example["reply"], tensors=tensors), "headers": _ANSWERED}
    }
    for status in sorted({STATUS[code] for code in codes}):
        named = ", ".join(code for code, value in STATUS.items() if value == status and code in codes)
        responses[status] = {"description": named, **_content(ErrorReply), "headers": _headers_of(status)}
    extra: dict[str, Any] = {"parameters": _parameters(*headers)}
    if request:
        extra["requestBody"] = {"required": True, **_content(request, example["request"])}
    return {"operation_id": operation, "response_model": None, "responses": responses, "openapi_extra": extra}


@cache
def _examples() -> dict[str, dict[str, Any]]:
    return json.loads(text_of("examples.json"))


def examples_of(operation: str) -> dict[str, Any]:
    """A ``request`` of the route, if it takes one, and a ``reply``: both of the README's teacher."""
    return _examples()[operation]


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


def _parameters(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "header", "required": False, **_SENT[name]} for name in names]


def _headers_of(status: int) -> dict[str, Any]:
    return _ANSWERED | (_RETRY_AFTER if status in (429, 503) else {}) | (_SCHEME if status == 401 else {})


def _content(model: type[WireModel], example: Any = None, *, tensors: bool = False) -> dict[str, Any]:
    kind: dict[str, Any] = {"schema": {"$ref": _REF.format(model=model.__name__)}}
    content: dict[str, Any] = {"application/json": kind | ({"example": example} if example else {})}
    if tensors:
        content[SAFETENSORS] = {"schema": {"type": "string", "format": "binary"}}
    return {"content": content}
