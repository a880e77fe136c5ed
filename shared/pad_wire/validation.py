"""From bytes to a wire model, or to an error of one short line that never repeats the input."""

from typing import Any, TypeVar

from pydantic import ValidationError

from pad_wire.errors import ErrorDetail
from pad_wire.text import WireModel

MAX_ERRORS = 100

Model = TypeVar("Model", bound=WireModel)


class InvalidBody(ValueError):
    """The bytes are not JSON, or not of the model's shape; ``detail`` is ready to be sent."""

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
        raise InvalidBody(_detail(error, model)) from None


def validated(model: type[Model], value: Any) -> Model:
    """Read ``value``, objects and lists that are parsed already, as ``model``.

    Raises:
        InvalidBody: with code ``invalid_request``.

    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidBody(_detail(error, model)) from None


def _detail(error: ValidationError, model: type[WireModel]) -> ErrorDetail:
    if error.error_count() > MAX_ERRORS:  # unknown fields: one dictionary each would cost far more than the body
        message = f"the body has {error.error_count()} errors"
        return ErrorDetail(code="invalid_request", message=message, retryable=False)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return ErrorDetail(code="invalid_json", message="the body is not JSON", retryable=False)
    # An unknown field's name is the sender's own text: name the object that holds it instead.
    loc = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden" and not loc:
        message = f"an unknown field; known are {', '.join(model.model_fields)}"
    if error.error_count() > 1:
        message += f" (and {error.error_count() - 1} more)"
    return ErrorDetail(code="invalid_request", message=message, retryable=False, where=_path(loc) or None)


def _path(loc: tuple[int | str, ...]) -> str:
    """``("sets", 3, "prompt", "<text>")`` as ``sets[3].prompt``: union tags are pydantic's, not the sender's."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}" if path else part
    return path
