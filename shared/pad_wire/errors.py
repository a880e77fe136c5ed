"""The one shape of every error, its codes and their HTTP statuses."""

from typing import Literal

from pad_wire.text import WireModel

ErrorCode = Literal[
    "invalid_json",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "body_too_large",
    "invalid_request",
    "too_long",
    "too_many_options",
    "template_refused",
    "overloaded",
    "budget_exceeded",
    "quota_exceeded",
    "internal",
    "not_ready",
    "engine_failed",
    "deadline_exceeded",
]

STATUS: dict[ErrorCode, int] = {
    "invalid_json": 400,  # the body is not JSON
    "unauthorized": 401,  # no key, or one the service does not know
    "not_found": 404,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "invalid_request": 422,  # JSON of another shape than the route takes
    "too_long": 422,  # more tokens than the teacher's context, its queue or the key's limits can hold
    "too_many_options": 422,  # more responses than option letters, or more orders than the limit
    "template_refused": 422,  # the teacher's chat template does not take this conversation
    "overloaded": 429,  # the queue is full: come back after Retry-After seconds
    "budget_exceeded": 429,  # the key's tokens of this minute are used: come back after Retry-After seconds
    "quota_exceeded": 429,  # the key's tokens of this UTC day are used: Retry-After says when the next one begins
    "internal": 500,
    "not_ready": 503,  # starting or draining
    "engine_failed": 503,  # the model failed, or gave a number that is not finite
    "deadline_exceeded": 504,  # X-Deadline-Ms passed before the engine was reached
}

RETRYABLE: frozenset[ErrorCode] = frozenset(
    {"overloaded", "budget_exceeded", "not_ready", "engine_failed", "deadline_exceeded"}
)


class ErrorDetail(WireModel):
    """One error. The message is one line and never repeats the input."""

    code: ErrorCode
    message: str
    retryable: bool
    where: str | None = None  # the field, as in sets[3].responses[1]


class ErrorReply(WireModel):
    """The body of every reply that is not a success."""

    error: ErrorDetail
