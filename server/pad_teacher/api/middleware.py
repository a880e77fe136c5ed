"""Middleware: every request gets an id, a key check, a log line, and errors in one shape."""

import asyncio
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pad_teacher.admission.client import Client
from pad_teacher.admission.key_ring import KeyRing
from pad_teacher.api.pages.assets import ASSETS
from pad_teacher.api.request_log import RequestLog
from pad_teacher.api.same_site import why_not_same_site
from pad_teacher.errors import Refusal
from pad_teacher.runtime.addresses import is_loopback
from pad_teacher.service import Service, shutting_down
from pad_wire import ErrorReply
from pad_wire.validation import InvalidBody

PROBES = frozenset({"/v1/health/live", "/v1/health/ready", "/health"})
# Routes that need no key, and tell no secret.
OPEN = PROBES | {"/", "/docs", "/openapi.json"} | {f"/assets/{name}" for name in ASSETS}
_PLAIN = re.compile(r"[\x21-\x7e]{1,128}")


def error_response(refusal: Refusal) -> Response:
    """The reply to a refused request."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.detail.code in ("invalid_http", "request_timeout"):
        headers["Connection"] = "close"
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = ErrorReply(error=refusal.detail.as_sent()).model_dump_json(exclude_none=True)
    return Response(body, refusal.status, headers, "application/json")


def as_refusal(error: BaseException, request_id: str) -> Refusal:
    """Any exception as a refusal. An unforeseen one names only the id of its request."""
    match error:
        case Refusal():
            return error
        case InvalidBody(detail=detail):
            return Refusal(detail.code, detail.message, where=detail.where)
        case _:
            return Refusal("internal", f"internal error; request {request_id}")


class Observe:
    """The outermost layer: gives each request an id, logs and counts it, and answers uncaught exceptions."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._metrics = service.metrics
        self._log = RequestLog()

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
                sent = MutableHeaders(scope=message)
                sent["X-Request-Id"] = request_id
                if self._service.is_draining or _has_two_lengths(headers):
                    sent["Connection"] = "close"
            await send(message)

        failure: BaseException | None = None
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if not self._service.is_draining:
                raise
            # The drain time is over. The request ends as any other that is refused.
            scope["state"]["logged"]["error"] = "not_ready"
            if not status:
                await error_response(shutting_down())(scope, receive, send_with_id)
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
        probe = path in PROBES and failure is None  # probes come every few seconds, and not ready is no error
        self._log.write(
            status,
            failure,
            is_probe=probe,
            route=path,
            method=scope["method"],
            ms=round(seconds * 1e3, 1),
            traceparent=_short_printable(headers.get("traceparent")),
            **scope["state"]["logged"],
            request_id=scope["state"]["request_id"],
        )


class Authenticate:
    """Refuses every request without a known key, except for health and the documents.

    Without a key file the service answers only to this machine's own names, unless ``anyone`` may ask, and to no web
    page of another site.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing | None, host: str, anyone: bool) -> None:
        self._app = app
        self._ring = ring
        self._host = host.lower()
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
        foreign = None if self._ring else why_not_same_site(scope["method"], headers, self._is_own_name)
        if foreign:
            scope["state"]["logged"]["error"] = "forbidden"
            await error_response(foreign)(scope, receive, send)
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
        return Client(record.name, job, record, record.metrics) if record else None

    def _is_own_name(self, host: str) -> bool:
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        name = name.strip("[]").lower()
        return name == self._host or is_loopback(name)


def _has_two_lengths(headers: Headers) -> bool:
    """Whether a proxy could see another end of the request than h11: then nothing may follow it (RFC 9112, 6.1)."""
    return "content-length" in headers and "transfer-encoding" in headers


def _short_printable(value: str | None) -> str | None:
    """A header's value if it is short and printable, so that a log entry stays one line."""
    return value if value and _PLAIN.fullmatch(value) else None


# pyright: standard
