"""The one shape of every error, its codes and their HTTP statuses."""

from typing import Literal

from pydantic import Field

from pad_wire.text import WireModel

ErrorCode = Literal[
    "invalid_http",
    "invalid_json",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "body_too_large",
    "invalid_request",
    "too_long",
    "too_many_options",
    "template_refused",
    "unsupported",
    "overloaded",
    "budget_exceeded",
    "quota_exceeded",
    "internal",
    "not_ready",
    "engine_failed",
    "deadline_exceeded",
]

STATUS: dict[ErrorCode, int] = {
    "invalid_http": 400,  # the request is not HTTP/1.1, or its headers are too large; the connection is closed
    "invalid_json": 400,  # the body is not JSON
    "unauthorized": 401,  # no key, or one the service does not know
    "forbidden": 403,  # the key may not see this, or a web page of another site asks
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,  # the body came too slowly; the connection is closed
    "body_too_large": 413,
    "invalid_request": 422,  # JSON of another shape than the route takes
    "too_long": 422,  # more tokens than the teacher's context, its queue or the key's limits can hold
    "too_many_options": 422,  # more responses than option letters, or more orders than the limit
    "template_refused": 422,  # the teacher's chat template, or the API it is behind, refuses the conversation
    "unsupported": 422,  # this service's engine or models cannot answer that
    "overloaded": 429,  # the queue is full: come back after Retry-After seconds
    "budget_exceeded": 429,  # the key's tokens of this minute are used: come back after Retry-After seconds
    "quota_exceeded": 429,  # the tokens of this UTC day are used, the key's or the API's: Retry-After says until when
    "internal": 500,
    "not_ready": 503,  # starting or draining
    "engine_failed": 503,  # the model failed, or gave a number that is not finite
    "deadline_exceeded": 504,  # X-Deadline-Ms passed before the engine was reached
}

RETRYABLE: frozenset[ErrorCode] = frozenset(
    {"request_timeout", "overloaded", "budget_exceeded", "not_ready", "engine_failed", "deadline_exceeded"}
)


class ErrorDetail(WireModel):
    """One error. The message is one line.

    Of the input it repeats the name of a field that resembles a known one, and the words in which a chat template
    refuses a conversation, but nothing else.

    As a reply it names the field three times, because clients look in different places: ``where``, OpenAI's name
    ``param`` for the same, and the beginning of the message. See ``as_sent`` and ``as_received``.
    """

    code: ErrorCode = Field(description="the kind of error, for programs")
    message: str = Field(description="one line for people, that begins with the field if there is one")
    retryable: bool = Field(description="whether the same request may succeed later")
    where: str | None = Field(default=None, description="the field at fault, as in sets[3].responses[1]")
    param: str | None = Field(default=None, description="the same, under OpenAI's name")

    def as_sent(self) -> "ErrorDetail":
        """The form of a reply."""
        if self.where is None:
            return self
        return self.model_copy(update={"message": f"{self.where}: {self.message}", "param": self.where})

    def as_received(self) -> "ErrorDetail":
        """The form of this process: the field is in ``where`` alone."""
        return self.model_copy(update={"message": self.message.removeprefix(f"{self.where}: "), "param": None})


class ErrorReply(WireModel):
    """The body of every reply that is not a success."""

    error: ErrorDetail = Field(description="the one error that is reported")
