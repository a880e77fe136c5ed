"""Middleware: every request gets an id, a key check, a log line, and errors in one shape."""

import asyncio
import ipaddress
import re
import time
import uuid
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pad_teacher.admission.client import Client
from pad_teacher.admission.keys import KeyRing
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics
from pad_wire import ErrorReply
from pad_wire.validation import InvalidBody

log = structlog.get_logger()

OPEN = frozenset({"/v1/health/live", "/v1/health/ready"})  # probes need no key, and learn no secret
_PLAIN = re.compile(r"[\x21-\x7e]{1,128}")


def error_response(refusal: Refusal) -> Response:
    """The reply to a refused request."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = ErrorReply(error=refusal.detail).model_dump_json(exclude_none=True)
    return Response(body, refusal.status, headers, "application/json")


def as_refusal(error: BaseException, request_id: str) -> Refusal:
    """Any exception as a refusal. An unforeseen one names only the id of its request."""
    match error:
        case Refusal():
            return error
        case InvalidBody(detail=detail):
            return Refusal(detail.code, detail.message, where=detail.where)
        case HTTPException(status_code=404):
            return Refusal("not_found", "no such route")
        case HTTPException(status_code=405):
            return Refusal("method_not_allowed", "the route takes another method")
        case _:
            return Refusal("internal", f"internal error; request {request_id}")


class Observe:
    """The outermost layer: gives each request an id, logs and counts it, and answers uncaught exceptions."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _short_printable(headers.get("x-request-id")) or uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, logged={})
        began, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        failure: BaseException | None = None
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if not status:  # the drain time is over
                message = "the teacher is shutting down"
                await error_response(Refusal("not_ready", message))(scope, receive, send_with_id)
            raise
        except ClientDisconnect:
            status = 499  # nginx's code for a client that has left; no reply is sent
        except Exception as error:  # noqa: BLE001 - the last resort: a short 500 and the trace in the log
            failure = error
            scope["state"]["logged"]["error"] = "internal"
            if not status:
                await error_response(as_refusal(error, request_id))(scope, receive, send_with_id)
        finally:
            self._metrics.in_flight.dec()
        self._record(scope, headers, status, time.monotonic() - began, failure)

    def _record(
        self, scope: Scope, headers: Headers, status: int, seconds: float, failure: BaseException | None
    ) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", "(none)")  # the template, so that unknown paths make no new time series
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.request_seconds.labels(path).observe(seconds)
        if reason := scope["state"]["logged"].get("error"):
            self._metrics.refusals.labels(reason).inc()
        probe = path in OPEN and failure is None  # probes come every few seconds, and not ready is no error
        log.log(
            10 if probe else 40 if status >= 500 else 20,
            "request",
            route=path,
            method=scope["method"],
            status=status,
            ms=round(seconds * 1e3, 1),
            traceparent=_short_printable(headers.get("traceparent")),
            exc_info=failure,
            **scope["state"]["logged"],
            request_id=scope["state"]["request_id"],
        )


class Authenticate:
    """Refuses every request without a known key, except for health.

    Without a key file the service answers only to this machine's own names, unless ``anyone`` may ask.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing | None, host: str, anyone: bool) -> None:
        self._app = app
        self._ring = ring
        self._hosts = {"localhost", host.lower()}
        self._anyone = anyone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = self._client(headers)
        if client is None:
            known = "send a key the service knows: Authorization: Bearer KEY"
            message = known if self._ring else "a service without keys answers only to this machine's own names"
            scope["state"]["logged"]["error"] = "unauthorized"
            await error_response(Refusal("unauthorized", message))(scope, receive, send)
            return
        scope["state"]["client"] = client
        scope["state"]["logged"].update(key=client.key or None, job=client.job)
        await self._app(scope, receive, send)

    def _client(self, headers: Headers) -> Client | None:
        job = _short_printable(headers.get("x-job-id")) or "default"
        if self._ring is None:
            # DNS rebinding: a web page whose name resolves to this machine must not reach a service without keys.
            return Client("", job) if self._anyone or self._is_own_name(headers.get("host", "")) else None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        record = self._ring.find(key.strip()) if scheme.lower() == "bearer" else None
        return Client(record.name, job, record) if record else None

    def _is_own_name(self, host: str) -> bool:
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        name = name.strip("[]").lower()
        if name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def _short_printable(value: str | None) -> str | None:
    """A header's value if it is short and printable, so that a log entry stays one line."""
    return value if value and _PLAIN.fullmatch(value) else None


# pyright: standard
