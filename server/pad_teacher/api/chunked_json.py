"""Replies as JSON, written and sent in chunks.

A reply can have tens of megabytes. Writing it in one call of pydantic would stop all threads for up to 100 ms, and
sending it in one call would stop the event loop for up to 40 ms.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pad_wire.text import WireModel

CHUNK_BYTES = 2**17


def json_chunks(reply: WireModel) -> list[bytes]:
    """The JSON of ``reply`` without its empty fields, cut into chunks of about ``CHUNK_BYTES``."""
    chunks: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for part in _model(reply):
        parts.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            chunks.append(b"".join(parts))
            parts, size = [], 0
    return [*chunks, b"".join(parts)]


class ChunkedJson(Response):
    """A reply that is sent chunk by chunk, at the pace at which the client reads it."""

    media_type = "application/json"

    def __init__(self, chunks: Sequence[bytes], status: int = 200) -> None:
        super().__init__(None, status, {"Content-Length": str(sum(map(len, chunks)))})
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        *before, last = self._chunks
        for chunk in before:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)  # send does not wait while the socket takes all: let other tasks run in between
        await send({"type": "http.response.body", "body": last})


def _model(model: WireModel) -> Iterator[bytes]:
    """The JSON of a model. Each model in it that has lists of its own is a part of its own."""
    before = b"{"
    for name, value in model:
        if value is None:
            continue
        yield before + to_json(name) + b":"
        if _is_list_of_models(value) and not _is_flat(value[0]):
            yield from _models(value)
        else:
            yield to_json(value, exclude_none=True)
        before = b","
    yield b"}" if before == b"," else b"{}"


def _models(models: list[WireModel]) -> Iterator[bytes]:
    before = b"["
    for model in models:
        yield before
        if any(_is_list_of_models(value) for _, value in model):
            yield from _model(model)
        else:
            yield to_json(model, exclude_none=True)
        before = b","
    yield b"]"


def _is_list_of_models(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], WireModel)


def _is_flat(model: WireModel) -> bool:
    """Whether the model is short: a few numbers and texts."""
    return not any(isinstance(value, list | WireModel) for _, value in model)


# pyright: standard
