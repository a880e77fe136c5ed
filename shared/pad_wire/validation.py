"""From bytes to a wire model, or to an error of one short line that never repeats the input."""

from typing import Any, TypeVar

from pydantic import ValidationError

from pad_wire.errors import ErrorDetail
from pad_wire.text import WireModel

MAX_ERRORS = 100

Model = TypeVar("Model", bound=WireModel)


class InvalidBody(ValueError):
    """The bytes are not JSON, or do not fit the model; ``detail`` is the error as it is sent."""

    def __init__(self, detail: ErrorDetail) -> None:
        super().__init__(detail.message)
        self.detail = detail


def parse(model: type[Model], body: bytes | bytearray) -> Model:
    """Read ``body`` as ``model``.

    Raises:
        InvalidBody: with code ``invalid_json`` or ``invalid_request``.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(model, error) from None


def validated(model: type[Model], value: Any) -> Model:
    """Read ``value``, which consists of objects and lists that are parsed already, as ``model``.

    Raises:
        InvalidBody: with code ``invalid_request``.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(model, error) from None


def _invalid(model: type[WireModel], error: ValidationError) -> InvalidBody:
    count = error.error_count()
    if count > MAX_ERRORS:  # many unknown fields: a dictionary for each error would cost far more than the body
        return _refused(f"the body has {count} errors")
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return InvalidBody(ErrorDetail(code="invalid_json", message="the body is not JSON", retryable=False))
    # The name of an unknown field is the sender's own text: name the object that holds it instead.
    loc = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden" and not loc:
        message = f"an unknown field; known are {', '.join(model.model_fields)}"
    if count > 1:
        message += f" (and {count - 1} more)"
    return _refused(message, _path(loc))


def _refused(message: str, where: str = "") -> InvalidBody:
    return InvalidBody(ErrorDetail(code="invalid_request", message=message, retryable=False, where=where or None))


def _path(loc: tuple[int | str, ...]) -> str:
    """``("sets", 3, "prompt", "<text>")`` as ``sets[3].prompt``, without the tags of unions."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}" if path else part
    return path
