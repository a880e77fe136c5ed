"""HTTP to one teacher, with deadlines and bounded retries: the only file that knows the HTTP library."""

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import uuid4

import httpx
import stamina

from pad_student.replies import Untrustworthy
from pad_student.teacher_errors import TeacherError, TeacherNonsense, TeacherRefused, TeacherUnreachable, refusal
from pad_wire import ErrorDetail, ErrorReply, SampledSet
from pad_wire.validation import InvalidBody, parse

ATTEMPTS = 30
FEW_ATTEMPTS = 3  # for nonsense and for 500: what does not pass by itself soon is not going to
FIRST_ATTEMPTS = 6  # some 20 s to come up for a teacher that has never answered: the address may be wrong
WAIT_INITIAL, WAIT_MAX = 0.5, 20.0  # seconds
CONNECT_TIMEOUT = 10.0
MAX_REPLY_BYTES = 256 * 2**20
TRANSIENT = frozenset({429, 502, 503, 504})

Answer = TypeVar("Answer")
Transport = httpx.BaseTransport

log = logging.getLogger(__name__)


class _Again(Exception):
    """An error that may pass within ``attempts``; ``wait`` is the teacher's own Retry-After in seconds."""

    def __init__(self, error: TeacherError, attempts: int, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts
        self.wait = wait


class Connection:
    """Requests to one service; thread-safe. ``timeout`` bounds one reply, ``patience`` one request with its retries.

    Raises:
        TeacherUnreachable: where ``url`` is not an HTTP address.
        TeacherRefused: for a key or a job that no HTTP header can carry.

    """

    def __init__(
        self,
        url: str,
        key: str | None,
        job: str | None,
        timeout: float,
        patience: float,
        transport: Transport | None,
    ) -> None:
        self.url, base = _checked_url(url)
        self._timeout = timeout
        self._patience = patience
        self._closed = threading.Event()
        self._has_answered = False
        headers = {"X-Deadline-Ms": str(int(timeout * 1000))}
        if key:
            headers["Authorization"] = f"Bearer {_header_text(self.url, 'key', key)}"
        if job:
            headers["X-Job-Id"] = _header_text(self.url, "job", job)
        times = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout))
        self._http = httpx.Client(base_url=base, headers=headers, timeout=times, transport=transport)

    def close(self) -> None:
        """Close all connections; what is still on its way fails and is not retried."""
        self._closed.set()
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        understand: Callable[[bytes], Answer],
        request: Sequence[SampledSet] = (),
    ) -> Answer:
        """Send one request until it is answered, under one X-Request-Id; ``understand`` reads the reply's body.

        ``understand`` raises InvalidBody or Untrustworthy for a body that must not be used. ``request`` names the
        sets that an error may point at.

        Raises:
            TeacherError: see ``teacher_errors``.

        """
        headers = {"X-Request-Id": uuid4().hex, "Content-Type": "application/json"}
        attempts = stamina.retry_context(
            on=self._wait_until(time.monotonic() + self._patience),
            attempts=ATTEMPTS,
            timeout=self._patience,
            wait_initial=WAIT_INITIAL,
            wait_max=WAIT_MAX,
        )
        try:
            for attempt in attempts:
                with attempt:
                    try:
                        return self._once(method, path, body, headers, understand, request)
                    except _Again as again:
                        if attempt.num >= again.attempts:
                            raise again.error from again.__cause__
                        raise
        except _Again as again:
            raise again.error from again.__cause__
        raise AssertionError("a retry context makes one attempt at least")

    def _wait_until(self, end: float) -> Callable[[Exception], bool | float]:
        """Whether to try again, and after how long where the teacher says so."""

        def wait(error: Exception) -> bool | float:
            if not isinstance(error, _Again) or self._closed.is_set():
                return False
            if error.wait and time.monotonic() + error.wait > end:
                return False  # the teacher asks for more time than there is
            log.warning("%s; trying again", error)
            return error.wait or True

        return wait

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        understand: Callable[[bytes], Answer],
        request: Sequence[SampledSet],
    ) -> Answer:
        response, content = self._exchange(method, path, body, headers)
        status = response.status_code
        if response.is_success:
            try:
                return understand(content)
            except (InvalidBody, Untrustworthy) as error:
                message = f"the teacher at {self.url} sent a reply that cannot be trusted: {error}; see its log"
                raise _Again(TeacherNonsense(message), FEW_ATTEMPTS) from None
        detail = _error_detail(content)
        if (status < 500 and status not in TRANSIENT) or (status in TRANSIENT and detail and not detail.retryable):
            raise refusal(self.url, status, detail, request)
        said = detail.message if detail else f"HTTP status {status}"
        error = TeacherUnreachable(f"the teacher at {self.url} cannot answer now: {said}; wait, or see its log")
        raise _Again(error, ATTEMPTS if status in TRANSIENT else FEW_ATTEMPTS, _retry_after(response))

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[httpx.Response, bytes]:
        """Send and read under one deadline: httpx times each read alone, so a dripping reply would never end."""
        deadline = time.monotonic() + self._timeout
        content = bytearray()
        try:
            with self._http.stream(method, path, content=body, headers=headers) as response:
                for part in response.iter_bytes():
                    content += part
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the reply drips")
                    if len(content) > MAX_REPLY_BYTES:
                        endless = TeacherNonsense(f"the teacher at {self.url} sent a reply without end; see its log")
                        raise _Again(endless, FEW_ATTEMPTS)
        except (httpx.TransportError, httpx.DecodingError) as error:
            if doubt := _certificate_doubt(error):
                hint = "name the authority that signed it with SSL_CERT_FILE=FILE"
                raise TeacherUnreachable(f"the certificate of {self.url} is not trusted: {doubt}; {hint}") from None
            attempts = ATTEMPTS if self._has_answered else FIRST_ATTEMPTS
            raise _Again(TeacherUnreachable(self._unreachable(error)), attempts) from error
        self._has_answered = True
        return response, bytes(content)

    def _unreachable(self, error: Exception) -> str:
        # The library's own text may quote a header, and so the key.
        if isinstance(error, httpx.TimeoutException):
            return f"the teacher at {self.url} gave no answer in {self._timeout:g} s; see its log, or allow more time"
        if isinstance(error, httpx.ConnectError):
            return f"cannot connect to the teacher at {self.url}; start it, or check the address"
        return f"the connection to the teacher at {self.url} broke; see its log"


def _certificate_doubt(error: BaseException | None) -> str | None:
    """Why the service's certificate is not trusted, if that is what failed: no retry will change it."""
    while error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _checked_url(url: str) -> tuple[str, httpx.URL]:
    """The URL for messages, without user and password, and the URL to call."""
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise TeacherUnreachable(f"the teacher's URL must look like http://127.0.0.1:8010, not {url!r}")
    return str(parsed.copy_with(username=None, password=None)), parsed


def _header_text(url: str, name: str, text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise TeacherRefused(f"the {name} for the teacher at {url} must be printable ASCII; give it again")
    return text


def _error_detail(content: bytes) -> ErrorDetail | None:
    try:
        return parse(ErrorReply, content).error
    except InvalidBody:
        return None


def _retry_after(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
