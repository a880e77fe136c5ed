"""How a teacher can fail a run, as drawn in ``pad_student.errors``; every message names the URL and the remedy."""

import re
from collections.abc import Sequence

from pad_student.errors import StudentError
from pad_wire import ErrorDetail, SampledSet


class TeacherError(StudentError):
    """The teacher gave no usable answer."""


class TeacherUnreachable(TeacherError):
    """The teacher is dead, refuses connections, is too slow, overloaded or failing."""


class TeacherRefused(TeacherError):
    """The teacher understood and said no; the same request would be refused again."""

    def __init__(self, message: str, code: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.where = where


class TeacherChanged(TeacherError):
    """The teacher's weights, tokenizer, template or dtype are not those that the run began with."""


class TeachersDiffer(TeacherChanged):
    """Two replicas are not the same teacher, so their numbers must not be mixed."""


class TeacherNonsense(TeacherError):
    """The teacher's reply cannot be trusted."""


def refusal(url: str, status: int, detail: ErrorDetail | None, request: Sequence[SampledSet]) -> TeacherRefused:
    """The error for a permanent 4xx; without a ``detail`` it was not this service that answered."""
    if detail is None:
        return TeacherRefused(f"{url} answered with HTTP status {status}; check that a pad-teacher serves there")
    if status == 401:
        hint = "give one with --key or PAD_STUDENT_KEY"
        return TeacherRefused(f"the teacher at {url} wants a valid key: {detail.message}; {hint}", detail.code)
    if detail.code == "quota_exceeded":
        hint = "go on tomorrow, or ask for a larger quota"
        return TeacherRefused(f"the teacher at {url} refused: {detail.message}; {hint}", detail.code)
    place = f" ({detail.where}{_set_name(detail.where, request)})" if detail.where else ""
    message = f"the teacher at {url} refused: {detail.message}{place}; correct the input"
    return TeacherRefused(message, detail.code, detail.where)


def _set_name(where: str, request: Sequence[SampledSet]) -> str:
    """``sets[3]…`` counts within one request: name the set that the user knows."""
    found = re.match(r"sets\[(\d+)\]", where)
    return f", set {request[int(found[1])].id!r}" if found and int(found[1]) < len(request) else ""
