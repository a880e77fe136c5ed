"""Network streams whose reads and writes share one deadline: the HTTP library limits each of them alone.

A peer that sends a header line a second, or interim replies for ever, would otherwise never be too slow.
"""

import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

CHUNK = 65536  # bytes; a write of more would have the whole time for each piece that the peer takes


class Deadline(threading.local):
    """The time at which this thread's exchange ends, by ``time.monotonic``; none unless it is inside ``within``."""

    at = math.inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End the block's exchange after so many seconds."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = math.inf

    def left(self, timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
        """The shorter of ``timeout`` and the time that is left; None for ever.

        Raises:
            TimeoutException: of the kind ``late``, if no time is left.
        """
        left = min(self.at - time.monotonic(), math.inf if timeout is None else timeout)
        if left <= 0:
            raise late("the deadline is over")
        return None if left == math.inf else left


def limit(transport: httpx.HTTPTransport, deadline: Deadline) -> httpx.HTTPTransport:
    """Have a transport's new connections keep the deadline; httpx has no argument for that."""
    pool: Any = vars(transport)["_pool"]
    pool._network_backend = _Backend(pool._network_backend, deadline)
    return transport


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), CHUNK):
            left = self._deadline.left(timeout, httpcore.WriteTimeout)
            self._stream.write(buffer[start : start + CHUNK], left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._backend = backend
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_tcp(host, port, left, local_address, socket_options), self._deadline)
