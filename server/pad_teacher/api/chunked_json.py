"""Replies as bytes, written and sent in pieces: a reply may be 20 MB, and one step for it all would hold up others.

pydantic writes JSON in one call that keeps the interpreter from every other thread, the event loop's too.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pad_wire.text import WireModel

PIECE_BYTES = 2**17
AT_ONCE = 64  # models of a few numbers each that are written in one call


def json_pieces(reply: WireModel) -> list[bytes]:
    """The JSON of ``reply`` without its empty fields, cut anywhere."""
    pieces: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for part in _model(reply):
        parts.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            pieces.append(b"".join(parts))
            parts, size = [], 0
    return [*pieces, b"".join(parts)]


class JsonPieces(Response):
    """A reply that goes to the socket piece by piece, at the pace at which the client takes them."""

    media_type = "application/json"

    def __init__(self, pieces: Sequence[bytes], status: int = 200) -> None:
        super().__init__(None, status, {"Content-Length": str(sum(map(len, pieces)))})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        *before, last = self._pieces
        for piece in before:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # sending does not wait while the socket takes all: others go in between
        await send({"type": "http.response.body", "body": last})


def _model(model: WireModel) -> Iterator[bytes]:
    before = b"{"
    for name, value in model:
        if value is None:
            continue
        yield before + to_json(name) + b":"
        yield from _models(value) if _is_models(value) else [to_json(value, exclude_none=True)]
        before = b","
    yield b"}" if before == b"," else b"{}"


def _models(models: list[WireModel]) -> Iterator[bytes]:
    short = not any(isinstance(value, list | WireModel) for _, value in models[0])
    nested = any(_is_models(value) for _, value in models[0])
    before = b"["
    for start in range(0, len(models), AT_ONCE if short else 1):
        yield before
        if nested:
            yield from _model(models[start])
        else:
            yield to_json(models[start : start + AT_ONCE] if short else [models[start]], exclude_none=True)[1:-1]
        before = b","
    yield b"]"


def _is_models(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], WireModel)
