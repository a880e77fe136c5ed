"""One try of one call at one replica: which failures may pass, and which will not."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import uuid4

from pad_student.teacher.checks.replies import Untrustworthy
from pad_student.teacher.errors import (
    TeacherError,
    TeacherNonsense,
    TeacherRefused,
    TeacherSlow,
    TeacherUnreachable,
    printable,
    refusal,
)
from pad_student.teacher.network.http import (
    BadAddress,
    EndlessReply,
    HttpAddress,
    NoReply,
    SlowReply,
    Transport,
    UntrustedCertificate,
)
from pad_wire import ErrorDetail, ErrorReply, SampledSet
from pad_wire.validation import InvalidBody, parse

FEW_ATTEMPTS = 3  # for an untrustworthy reply and for status 500, which seldom pass by themselves
# 408 and 425 come from gateways: the request was not read, or came too early.
TRANSIENT = frozenset({408, 425, 429, 502, 503, 504})
SLOW = 504  # the service's deadline passed, or a gateway's

Result = TypeVar("Result")


class RetryLater(Exception):
    """A failure that may pass.

    Attributes:
        error: to be raised if it does not.
        attempts: the most attempts that are worth making; None leaves it to the caller.
        slow: whether less work might be answered in time.
        wait: the teacher's own Retry-After, in seconds; None if it gave none.
    """

    def __init__(
        self, error: TeacherError, attempts: int | None = None, wait: float | None = None, slow: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.slow = slow
        self.attempts = attempts
        self.wait = wait

    def within(self, seconds: float) -> "RetryLater":
        """The same failure; if it asks for a wait, then for ``seconds`` at most."""
        return RetryLater(self.error, self.attempts, self.wait and min(self.wait, seconds), self.slow)


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One request, and how its reply is read.

    Attributes:
        path: of the route.
        read: turns the reply's body, and the URL that sent it, into the result; raises InvalidBody or Untrustworthy
            for a reply that must not be used.
        body: JSON of a POST; None makes it a GET.
        sets: those that an error may point at.
        headers: besides those of every call.
        request_id: the same in every try.
    """

    path: str
    read: Callable[[bytes, str], Result]
    body: bytes | None = None
    sets: Sequence[SampledSet] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    request_id: str = field(default_factory=lambda: uuid4().hex)


class Connection:
    """Calls to one replica of the teacher; thread-safe.

    Args:
        url: of the replica.
        key: the service's key, if it asks for one.
        job: the name that the service counts this work under.
        timeout: seconds for one reply.
        transport: an httpx transport in the place of the network.
        role: how messages call the service.

    Raises:
        TeacherUnreachable: if ``url`` is not an HTTP address.
        TeacherRefused: for a key or a job that no HTTP header can carry.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        job: str | None,
        timeout: float,
        transport: Transport | None,
        role: str = "teacher",
    ) -> None:
        self._timeout, self._role = timeout, role
        try:
            self._address = HttpAddress(url, role, {"X-Deadline-Ms": str(int(timeout * 1000))}, transport)
        except BadAddress as error:
            raise TeacherUnreachable(str(error)) from None
        self.url = self._address.url
        if key:
            self._address.add_header("Authorization", f"Bearer {self._header_text('key', key)}")
        if job:
            self._address.add_header("X-Job-Id", self._header_text("job", job))

    def __str__(self) -> str:
        """Its name in messages."""
        return f"the {self._role} at {self.url}"

    @property
    def has_answered(self) -> bool:
        """Whether there was ever a reply."""
        return self._address.has_answered

    def close(self) -> None:
        """Close all connections; calls that are on their way fail."""
        self._address.close()

    def ask(self, call: Call[Result], most: float = math.inf) -> Result:
        """Try once, for the timeout or ``most`` seconds, the shorter of the two.

        Raises:
            RetryLater: for a failure that may pass.
            TeacherError: for one that will not.
        """
        try:
            timeout = min(most, self._timeout)
            headers = {"X-Request-Id": call.request_id, **call.headers}
            reply = self._address.exchange(call.path, call.body, timeout, headers)
        except UntrustedCertificate as error:
            raise TeacherUnreachable(str(error)) from None
        except EndlessReply as error:
            raise RetryLater(TeacherNonsense(str(error)), FEW_ATTEMPTS) from None
        except SlowReply as error:
            raise RetryLater(TeacherSlow(str(error)), slow=True) from error.__cause__
        except NoReply as error:
            raise RetryLater(TeacherUnreachable(str(error))) from error.__cause__
        if 200 <= reply.status < 300:
            try:
                return call.read(reply.content, self.url)
            except (InvalidBody, Untrustworthy) as error:
                message = f"{self} sent a reply that cannot be trusted: {error}; see its log"
                raise RetryLater(TeacherNonsense(message), FEW_ATTEMPTS) from None
        detail, transient = _error_detail(reply.content), reply.status in TRANSIENT
        if (reply.status < 500 and not transient) or (transient and detail and not detail.retryable):
            raise refusal(self.url, reply.status, detail, call.sets, reply.location, self._role)
        reason = detail.message if detail else f"HTTP status {reply.status}"
        slow = reply.status == SLOW and reply.retry_after is None
        kind = TeacherSlow if slow else TeacherUnreachable
        remedy = "raise the timeout, or see its log" if slow else "wait, or see its log"
        error = kind(f"{self} cannot answer now: {reason}; {remedy}")
        raise RetryLater(error, None if transient else FEW_ATTEMPTS, reply.retry_after, slow)

    def _header_text(self, name: str, text: str) -> str:
        if not (text.isascii() and text.isprintable()):
            raise TeacherRefused(f"the {name} for {self} must be printable ASCII; give it again")
        return text


def _error_detail(content: bytes) -> ErrorDetail | None:
    try:
        detail = parse(ErrorReply, content).error.as_received()
        return detail.model_copy(update={"message": printable(detail.message)})
    except InvalidBody:
        return None
