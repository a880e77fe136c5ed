"""Errors of the teacher's client, as drawn in ``pad_student.errors``; every message names the URL and the remedy."""

import re
from collections.abc import Sequence

from pad_student.errors import StudentError
from pad_wire import ErrorDetail, SampledSet


class TeacherError(StudentError):
    """The teacher gave no usable answer."""


class TeacherUnreachable(TeacherError):
    """The teacher cannot be connected to, is too slow, overloaded or failing."""


class TeacherSlow(TeacherUnreachable):
    """No answer came within the timeout, or the service gave up after the same time."""


class TeacherRefused(TeacherError):
    """The teacher refused the request, and would refuse it again.

    Attributes:
        code: of the service's error; None if another server answered.
        where: the place in the request, if the error has one.
    """

    def __init__(self, message: str, code: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.where = where


class TooManyRefused(TeacherRefused):
    """The teacher refuses a larger share of the sets than a run may leave out."""


class TeacherChanged(TeacherError):
    """The teacher's weights, tokenizer, template or dtype differ from those that the run began with."""


class TeachersDiffer(TeacherChanged):
    """Two replicas serve different teachers, so their numbers must not be mixed."""


class TeacherNonsense(TeacherError):
    """The teacher's reply cannot be trusted."""


# What a gateway in front of the teacher, or a server in its place, means by a status, and the remedy.
GATEWAY_SAYS = {
    403: "it forbids the request; ask who runs the gateway in front of the teacher",
    407: "a proxy wants a name and a password; put them into its URL, or except the host with NO_PROXY",
    413: "the body is larger than the gateway in front of the teacher takes; raise the gateway's limit",
}


def refusal(
    url: str,
    status: int,
    detail: ErrorDetail | None,
    request: Sequence[SampledSet],
    location: str | None = None,
    role: str = "teacher",
) -> TeacherRefused:
    """The error for a redirect or a permanent 4xx. Without a ``detail`` another server than pad-teacher answered."""
    if detail is None:
        says = GATEWAY_SAYS.get(status, "check that a pad-teacher serves there")
        if 300 <= status < 400 and location:
            says = f"it sends to {printable(location)}; give that address as the {role}'s"
        return TeacherRefused(f"{url} answered with HTTP status {status}: {says}")
    if status == 401:
        hint = "give one with --key or PAD_STUDENT_KEY"
        return TeacherRefused(f"the {role} at {url} wants a valid key: {detail.message}; {hint}", detail.code)
    if detail.code == "quota_exceeded":
        hint = "go on tomorrow, or ask for a larger quota"
        return TeacherRefused(f"the {role} at {url} refused: {detail.message}; {hint}", detail.code)
    place = f" ({detail.where}{_set_name(detail.where, request)})" if detail.where else ""
    message = f"the {role} at {url} refused: {detail.message}{place}; correct the input"
    return TeacherRefused(message, detail.code, detail.where)


def printable(text: str, most: int = 300) -> str:
    """A peer's text as one short line: without characters that steer a terminal, cut after ``most``."""
    line = "".join(each if each.isprintable() else " " for each in text[: most + 1])
    return line if len(line) <= most else f"{line[:most]}…"


def _set_name(where: str, request: Sequence[SampledSet]) -> str:
    """The id of the set in ``sets[3]…``, which counts within one request and so tells the user nothing."""
    found = re.match(r"sets\[(\d+)\]", where)
    return f", set {request[int(found[1])].id!r}" if found and int(found[1]) < len(request) else ""
