"""One try at one address over HTTP, with a deadline: the only file that knows the HTTP library."""

import math
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import uuid4

import httpx

from pad_student.teacher.errors import TeacherError, TeacherNonsense, TeacherRefused, TeacherUnreachable, refusal
from pad_student.teacher.replies import Untrustworthy
from pad_wire import ErrorDetail, ErrorReply, SampledSet
from pad_wire.validation import InvalidBody, parse

FEW_ATTEMPTS = 3  # for nonsense and for 500: what does not pass by itself soon is not going to
CONNECT_TIMEOUT = 10.0
MAX_REPLY_BYTES = 256 * 2**20
TRANSIENT = frozenset({429, 502, 503, 504})

Answer = TypeVar("Answer")
Transport = httpx.BaseTransport


class Again(Exception):
    """An error that may pass, soon or within ``attempts``; ``wait`` is the teacher's own Retry-After in seconds."""

    def __init__(self, error: TeacherError, attempts: int | None = None, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts
        self.wait = wait

    def within(self, seconds: float) -> "Again":
        """The same, with no longer a wait than ``seconds`` where it asks for one."""
        return Again(self.error, self.attempts, self.wait and min(self.wait, seconds))


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """One request, and how its reply is read: a POST with a ``body``, else a GET.

    ``understand`` is given the reply's body and the URL it came from; it raises InvalidBody or Untrustworthy for one
    that must not be used. ``sets`` are those that an error may point at.
    """

    path: str
    understand: Callable[[bytes, str], Answer]
    body: bytes | None = None
    sets: Sequence[SampledSet] = ()
    request_id: str = field(default_factory=lambda: uuid4().hex)  # one, however often it is asked


class Connection:
    """Requests to one address; thread-safe. ``timeout`` bounds one reply; ``has_answered`` once there was one.

    ``peer`` is what messages call who serves there.

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
        transport: Transport | None,
        peer: str = "teacher",
    ) -> None:
        self.url, base = _checked_url(url, peer)
        self._peer = peer
        self.has_answered = False
        self._timeout = timeout
        headers = {"X-Deadline-Ms": str(int(timeout * 1000)), "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {_header_text(self.url, 'key', key)}"
        if job:
            headers["X-Job-Id"] = _header_text(self.url, "job", job)
        self._http = httpx.Client(base_url=base, headers=headers, transport=transport)

    def close(self) -> None:
        """Close all connections; what is still on its way fails."""
        self._http.close()

    def ask(self, question: Question[Answer], most: float = math.inf) -> Answer:
        """Ask once, for ``most`` seconds at the most where that is less than the timeout.

        Raises:
            Again: for what may pass.
            TeacherRefused: for what will not.

        """
        response, content = self._exchange(question, min(most, self._timeout))
        status = response.status_code
        if response.is_success:
            try:
                return question.understand(content, self.url)
            except (InvalidBody, Untrustworthy) as error:
                message = f"the teacher at {self.url} sent a reply that cannot be trusted: {error}; see its log"
                raise Again(TeacherNonsense(message), FEW_ATTEMPTS) from None
        detail = _error_detail(content)
        if (status < 500 and status not in TRANSIENT) or (status in TRANSIENT and detail and not detail.retryable):
            raise refusal(self.url, status, detail, question.sets)
        said = detail.message if detail else f"HTTP status {status}"
        error = TeacherUnreachable(f"the teacher at {self.url} cannot answer now: {said}; wait, or see its log")
        raise Again(error, None if status in TRANSIENT else FEW_ATTEMPTS, _retry_after(response))

    def exchange(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Ask once what is no pad-teacher; its status and reply, whatever they are.

        Raises:
            Again: where no reply came.

        """
        question = Question(path, lambda content, url: content, body)
        response, content = self._exchange(question, self._timeout)
        return response.status_code, content

    def _exchange(self, question: Question[Answer], timeout: float) -> tuple[httpx.Response, bytes]:
        """Send and read under one deadline: httpx times each read alone, so a dripping reply would never end."""
        deadline = time.monotonic() + timeout
        times = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout))
        method = "GET" if question.body is None else "POST"
        headers = {"X-Request-Id": question.request_id}
        content = bytearray()
        try:
            with self._http.stream(
                method, question.path, content=question.body, headers=headers, timeout=times
            ) as response:
                for part in response.iter_bytes():
                    content += part
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the reply drips")
                    if len(content) > MAX_REPLY_BYTES:
                        endless = TeacherNonsense(
                            f"the {self._peer} at {self.url} sent a reply without end; see its log"
                        )
                        raise Again(endless, FEW_ATTEMPTS)
        except (httpx.TransportError, httpx.DecodingError) as error:
            if doubt := _certificate_doubt(error):
                hint = "name the authority that signed it with SSL_CERT_FILE=FILE"
                raise TeacherUnreachable(f"the certificate of {self.url} is not trusted: {doubt}; {hint}") from None
            raise Again(TeacherUnreachable(self._unreachable(error, timeout))) from error
        self.has_answered = True
        return response, bytes(content)

    def _unreachable(self, error: Exception, timeout: float) -> str:
        # The library's own text may quote a header, and so the key.
        if isinstance(error, httpx.TimeoutException):
            return f"the {self._peer} at {self.url} gave no answer in {timeout:g} s; see its log, or allow more time"
        if isinstance(error, httpx.ConnectError):
            return f"cannot connect to the {self._peer} at {self.url}{_cause(error)}; start it, or check the address"
        return f"the connection to the {self._peer} at {self.url} broke; see its log"


def _cause(error: BaseException | None) -> str:
    """What the system says of it, in brackets; its words quote nothing that was sent."""
    while error:
        if isinstance(error, OSError) and (error.strerror or isinstance(error, ssl.SSLError)):
            said = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            return f" ({said.lower().replace('_', ' ')})" if said else ""
        error = error.__cause__ or error.__context__
    return ""


def _certificate_doubt(error: BaseException | None) -> str | None:
    """Why the service's certificate is not trusted, if that is what failed: no retry will change it."""
    while error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _checked_url(url: str, peer: str) -> tuple[str, httpx.URL]:
    """The URL for messages, without user and password, and the URL to call."""
    try:
        parsed = httpx.URL(url.rstrip("/").removesuffix("/v1"))  # as other clients are told where an API is
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise TeacherUnreachable(f"the {peer}'s URL must look like http://127.0.0.1:8010, not {url!r}")
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
