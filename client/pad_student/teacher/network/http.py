"""One HTTP exchange with one address, under one deadline: the only file that knows the HTTP library."""

import math
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import httpx

from pad_student.teacher.network.deadlines import Deadline, limit
from pad_student.teacher.network.proxies import proxy_for

CONNECT_TIMEOUT = 10.0  # seconds
MAX_REPLY_BYTES = 256 * 2**20

Transport = httpx.BaseTransport


class BadAddress(ValueError):
    """The URL is not an HTTP address."""


class NoReply(Exception):
    """No whole reply came, but another try may bring one; the message names the peer, its URL and the remedy."""


class SlowReply(NoReply):
    """No whole reply came within the timeout."""


class EndlessReply(NoReply):
    """The reply is larger than any that a well-behaved peer sends."""


class UntrustedCertificate(NoReply):
    """The peer's certificate is not trusted; no other try will change that."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole reply.

    ``retry_after`` is its Retry-After header in seconds, ``location`` its Location header; None without a usable one.
    """

    status: int
    content: bytes
    retry_after: float | None
    location: str | None = None


class HttpAddress:
    """An address that is asked over HTTP; thread-safe.

    ``url`` is the address for messages, without user and password. ``has_answered`` turns true with the first reply.

    Args:
        url: as in ``http://127.0.0.1:8010``; a trailing ``/v1`` is dropped, as other clients want it there.
        peer: how messages call the service there.
        headers: sent with every request, as those of ``add_header`` are.
        transport: an httpx transport in the place of the network.

    Raises:
        BadAddress: if ``url`` is not an HTTP address.
    """

    def __init__(
        self,
        url: str,
        peer: str,
        headers: Mapping[str, str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        try:
            parsed = httpx.URL(url.rstrip("/").removesuffix("/v1"))
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise BadAddress(f"the {peer}'s URL must look like http://127.0.0.1:8010, not {url!r}")
        self.url = str(parsed.copy_with(username=None, password=None))
        self.has_answered = False
        self._peer = peer
        sent = {"Content-Type": "application/json", **(headers or {})}
        self._deadline = Deadline()
        self._proxy = None if transport else proxy_for(parsed)
        self._http = self._client(parsed, sent, transport)

    def _client(self, url: httpx.URL, headers: dict[str, str], transport: Transport | None) -> httpx.Client:
        """The library's client, with no proxy but ours; it reads SSL_CERT_FILE from the environment itself."""
        try:
            if self._proxy:
                own = limit(httpx.HTTPTransport(proxy=self._proxy.url), self._deadline)
                return httpx.Client(base_url=url, headers=headers, transport=own)
            own = transport or limit(httpx.HTTPTransport(), self._deadline)
            return httpx.Client(base_url=url, headers=headers, transport=own)
        except (ImportError, ValueError, httpx.InvalidURL):
            if self._proxy is None:
                raise
            remedy = "install httpx[socks]" if self._proxy.url.startswith("socks5") else "mend it"
            raise BadAddress(
                f"{self._proxy.variable} names the proxy {self._proxy.shown}, which cannot be used;"
                f" {remedy}, or set NO_PROXY={url.host}"
            ) from None
        except OSError:  # of SSL_CERT_FILE or SSL_CERT_DIR, also ssl.SSLError
            names = " or ".join(name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ)
            raise BadAddress(f"the certificates that {names} names cannot be read; mend or unset it") from None

    def add_header(self, name: str, value: str) -> None:
        """Send this header with every request from now on."""
        self._http.headers[name] = value

    def close(self) -> None:
        """Close all connections; requests that are on their way fail."""
        self._http.close()

    def exchange(
        self, path: str, body: bytes | None, timeout: float, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        """Send one request, a POST if it has a body and else a GET, and read the whole reply.

        The one deadline covers all of it, as ``deadlines`` describes.

        Args:
            path: after the address.
            body: JSON.
            timeout: seconds for the whole exchange.
            headers: besides those of the address.

        Raises:
            NoReply: if there was none, or it did not end in time.
        """
        end = time.monotonic() + timeout
        times = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout))
        method = "GET" if body is None else "POST"
        content = bytearray()
        try:
            with (
                self._deadline.within(timeout),
                self._http.stream(method, path, content=body, headers=headers, timeout=times) as response,
            ):
                for part in response.iter_bytes():
                    content += part
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout("the reply comes too slowly")
                    if len(content) > MAX_REPLY_BYTES:
                        raise EndlessReply(f"the {self._peer} at {self.url} sent a reply without end; see its log")
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._fail(error, timeout)
        self.has_answered = True
        return HttpReply(
            response.status_code, bytes(content), _retry_after(response), response.headers.get("Location")
        )

    def _fail(self, error: Exception, timeout: float) -> NoReturn:
        # The library's own text may quote a header, and so the key.
        if doubt := _certificate_doubt(error):
            hint = "name the authority that signed it with SSL_CERT_FILE=FILE"
            raise UntrustedCertificate(f"the certificate of {self.url} is not trusted: {doubt}; {hint}") from None
        peer = f"the {self._peer} at {self.url}"
        if isinstance(error, httpx.TimeoutException):
            raise SlowReply(f"{peer} gave no answer in {timeout:g} s; see its log, or raise the timeout") from error
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            cause = _system_cause(error)
            if self._proxy:
                raise NoReply(
                    f"cannot connect to {peer} through the proxy {self._proxy.shown}{cause}; mend"
                    f" {self._proxy.variable}, or except the host with NO_PROXY"
                ) from error
            raise NoReply(f"cannot connect to {peer}{cause}; start it, or check the address") from error
        raise NoReply(f"the connection to {peer} broke; see its log") from error


def _system_cause(error: BaseException | None) -> str:
    """The operating system's reason in brackets, which quotes nothing that was sent; empty if it gave none."""
    while error:
        if isinstance(error, OSError) and (error.strerror or isinstance(error, ssl.SSLError)):
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            return f" ({reason.lower().replace('_', ' ')})" if reason else ""
        error = error.__cause__ or error.__context__
    return ""


def _certificate_doubt(error: BaseException | None) -> str | None:
    """Why the peer's certificate is not trusted, if that is the reason of the error."""
    while error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _retry_after(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
