"""Connections: their number is bounded, and none waits for ever for a client that says or takes nothing.

uvicorn itself ends only those that are idle between two requests.
"""

import asyncio
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pad_teacher.api.middleware import error_response
from pad_teacher.errors import Refusal

SWEEP_SECONDS = 0.5  # between two looks at all connections: so much longer than its limit one may live
ACCEPTS_A_STEP = 64  # connections: a burst of them must not stop the event loop

Phase = Literal["headers", "request", "reply", "refused", "closing"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The most connections; seconds for a request's headers; seconds in which a client takes none of its reply."""

    connections: int
    headers_seconds: float
    reply_seconds: float


class Connection(Protocol):
    """One connection as ``Connections`` sees it."""

    loop: asyncio.AbstractEventLoop

    @property
    def is_busy(self) -> bool:
        """Whether a whole request is being answered."""
        ...

    def abort(self) -> None:
        """End it at once."""
        ...

    def end_if_overdue(self, now: float, limits: ConnectionLimits) -> None:
        """End it if nothing has happened for longer than its limit."""
        ...


class Connections:
    """All connections of one service. Lives on the event loop.

    - There are never more than the limit; TLS handshakes count.
    - If all are taken, the one that has been silent for longest gives way to a new one. One whose request has
      arrived and is being answered is not silent. If all are busy, the new one is closed.
    - One in which nothing has happened for longer than its limit is ended.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: OrderedDict[Connection, None] = OrderedDict()  # those that were heard last are last
        self._looking = False

    def opened(self, new: Connection) -> None:
        """Count a connection, and make room for it."""
        self._open[new] = None
        if len(self._open) > self._limits.connections:
            longest = next(each for each in self._open if not each.is_busy)  # the new one, if all others are busy
            del self._open[longest]
            longest.abort()
        if not self._looking:
            self._looking = True
            new.loop.call_later(SWEEP_SECONDS, self._look, new.loop)

    def heard(self, connection: Connection) -> None:
        """Note that a connection's client has sent something."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.pop(connection, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in tuple(self._open):
            connection.end_if_overdue(now, self._limits)
        self._looking = bool(self._open)
        if self._looking:
            loop.call_later(SWEEP_SECONDS, self._look, loop)


class BoundedProtocol(H11Protocol):
    """One connection, and since when it is in its present phase.

    - ``headers``: the next request's are awaited. ``request``: its body is read or it is computed, which the
      application bounds. ``reply``: the client does not take it.
    - ``refused``: the reply is sent, and the request's body still comes. ``closing``: what was sent is not taken.
    """

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self.handshake: Handshake | None = None
        self.app_state: dict[str, Any] = dict(self.app_state)  # each request's state is a copy of it
        self._since = time.monotonic()
        self._phase: tuple[Phase, int] = "headers", 0
        self._answered = 0

    @property
    def is_busy(self) -> bool:
        """Whether a whole request is being answered."""
        cycle = cast(Any, self.cycle)  # None before the first request
        return cycle is not None and not (cycle.more_body or cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection."""
        super().connection_made(transport)
        if self.handshake:
            self._connections.closed(self.handshake)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note that the client was heard, and when a request began."""
        self._connections.heard(self)
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.app_state["began"] = time.monotonic()
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request in the form of every error, and end the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # this request has its reply, or a part of it
            self.transport.close()
            return
        self._end_with(Refusal("invalid_http", "the request is not HTTP/1.1, or its headers are too large"))

    def on_response_complete(self) -> None:
        """Count the answered request."""
        self._answered += 1
        super().on_response_complete()

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def end_if_overdue(self, now: float, limits: ConnectionLimits) -> None:
        """Close the connection if it has been in its phase for longer than the limit."""
        phase = self._present_phase(), self._answered
        if phase != self._phase:
            self._phase, self._since = phase, now
        most = {"headers": limits.headers_seconds, "request": float("inf")}.get(phase[0], limits.reply_seconds)
        if now - self._since < most:
            return
        if phase[0] != "headers":
            self.transport.abort()
            return
        if self.conn.trailing_data[0]:
            self._end_with(Refusal("request_timeout", "the request's headers came too slowly"))
        self.transport.close()

    def _end_with(self, refusal: Refusal) -> None:
        """Answer what the application has not seen, and end the connection."""
        reply = error_response(refusal)
        status = f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}".encode()
        lines = [status, *(b": ".join(header) for header in reply.raw_headers), b"", b""]
        self.transport.write(b"\r\n".join(lines) + bytes(reply.body))
        self.transport.close()

    def _present_phase(self) -> Phase:
        if self.transport.is_closing():
            return "closing"
        if self.flow.write_paused:
            return "reply"
        if self.conn.their_state is h11.IDLE:
            return "headers"
        cycle = cast(Any, self.cycle)
        return "refused" if cycle is not None and cycle.response_complete else "request"


class Handshake(SSLProtocol):
    """A TLS connection until its handshake is done; then ``BoundedProtocol`` takes its place."""

    def __init__(
        self, connections: Connections, protocol: BoundedProtocol, context: ssl.SSLContext, seconds: float
    ) -> None:
        waiter: Any = None
        timeout: Any = seconds
        super().__init__(protocol.loop, protocol, context, waiter, server_side=True, ssl_handshake_timeout=timeout)
        self._connections = connections
        self._raw: asyncio.Transport | None = None
        self.loop = protocol.loop
        protocol.handshake = self

    @property
    def is_busy(self) -> bool:
        """No: nothing was asked yet."""
        return False

    def connection_made(self, transport: Any) -> None:
        """Count the connection."""
        self._raw = transport
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection, if the handshake failed."""
        self._connections.closed(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """End the connection at once."""
        if self._raw:
            self._raw.abort()

    def end_if_overdue(self, now: float, limits: ConnectionLimits) -> None:
        """Do nothing: asyncio ends a handshake in time."""


class ServingLoop(asyncio.SelectorEventLoop):
    """An event loop whose TLS connections count from their first byte on, and that accepts a few at a time.

    asyncio makes a protocol known only after its handshake, for which it allows a minute; and it accepts as many in
    one step as may wait.
    """

    def __init__(self, connections: Connections, handshake_seconds: float) -> None:
        super().__init__()
        self._connections = connections
        self._handshake_seconds = handshake_seconds

    def _start_serving(
        self, factory: Any, sock: Any, context: Any = None, server: Any = None, backlog: int = 100, *rest: Any
    ) -> None:
        """As asyncio's, which hands the length of the queue of connections to the function that accepts them."""
        super()._start_serving(factory, sock, context, server, min(backlog, ACCEPTS_A_STEP), *rest)  # type: ignore[misc]

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], *args: Any, ssl: ssl.SSLContext | None = None, **kwargs: Any
    ) -> asyncio.Server:
        """As asyncio's; with ``ssl``, each connection begins as a ``Handshake``."""
        if ssl is None:
            return await super().create_server(protocol_factory, *args, **kwargs)

        def handshake() -> Handshake:
            return Handshake(self._connections, protocol_factory(), ssl, self._handshake_seconds)

        return await super().create_server(handshake, *args, **kwargs)
