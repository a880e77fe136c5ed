"""Replies as JSON, written and sent in chunks.

A reply can have tens of megabytes. Writing it in one call of pydantic would stop all threads for up to 100 ms, and
sending it in one call would stop the event loop for up to 40 ms.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pad_wire.text import WireModel

CHUNK_BYTES = 2**17


def json_chunks(reply: WireModel) -> Iterator[bytes]:
    """The JSON of ``reply``, in chunks of about ``CHUNK_BYTES``.

    Optional fields that are None are left out. A model without optional fields sends null for None: its schema
    requires the field, as OpenAI's does.
    """
    parts: list[bytes] = []
    size = 0
    for part in _model(reply):
        parts.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


@dataclass(frozen=True, slots=True)
class Chunks:
    """A reply in chunks, and their size in all; they are read once, at the pace of the client."""

    chunks: Iterable[bytes]
    size: int
    media_type: str = "application/json"

    @classmethod
    def of_json(cls, chunks: Sequence[bytes]) -> "Chunks":
        """A reply in JSON."""
        return cls(chunks, sum(map(len, chunks)))


class ChunkedReply(Response):
    """A reply that is sent chunk by chunk, at the pace at which the client reads it."""

    def __init__(self, body: Chunks, status: int = 200) -> None:
        super().__init__(None, status, {"Content-Length": str(body.size)}, body.media_type)
        self._chunks = body.chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)  # send does not wait while the socket takes all: let other tasks run in between
        await send({"type": "http.response.body", "body": b""})


def _model(model: WireModel) -> Iterator[bytes]:
    """The JSON of a model. Each model in it that has lists of its own is a part of its own."""
    before = b"{"
    for name, value in model:
        if value is None and leaves_out_none(type(model)):
            continue
        yield before + to_json(name) + b":"
        if _is_list_of_models(value) and not _is_flat(value[0]):
            yield from _models(value)
        else:
            yield _whole(value)
        before = b","
    yield b"}" if before == b"," else b"{}"


def _models(models: list[WireModel]) -> Iterator[bytes]:
    before = b"["
    for model in models:
        yield before
        if any(_is_list_of_models(value) for _, value in model):
            yield from _model(model)
        else:
            yield _whole(model)
        before = b","
    yield b"]"


@cache
def leaves_out_none(model: type[WireModel]) -> bool:
    """Whether the model has optional fields."""
    return any(not field.is_required() and field.default is None for field in model.model_fields.values())


def _whole(value: Any) -> bytes:
    model = value[0] if _is_list_of_models(value) else value
    return to_json(value, exclude_none=isinstance(model, WireModel) and leaves_out_none(type(model)))


def _is_list_of_models(value: Any) -> TypeGuard[list[WireModel]]:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], WireModel)


def _is_flat(model: WireModel) -> bool:
    """Whether the model is short: a few numbers and texts."""
    return not any(isinstance(value, list | WireModel) for _, value in model)


# pyright: standard
