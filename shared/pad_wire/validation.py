"""From bytes to a wire model, or to an error of one short line that repeats no value of the input."""

import re
from typing import Any, TypeVar

from pydantic import ValidationError

from pad_wire.errors import ErrorDetail
from pad_wire.fields import fields_at
from pad_wire.near import nearest
from pad_wire.text import WireModel

MAX_ERRORS = 100
MOST_LOOKED_AT = 8  # unknown fields for which a near name is sought

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
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    first = errors[0]
    if first["type"] == "json_invalid":
        return InvalidBody(ErrorDetail(code="invalid_json", message="the body is not JSON", retryable=False))
    # A misspelt field is missing under its own name too, and that error comes first.
    unknown = [each["loc"] for each in errors if each["type"] == "extra_forbidden"][:MOST_LOOKED_AT]
    missing = [each["loc"] for each in errors if each["type"] == "missing"]
    for loc in unknown if first["type"] in ("missing", "extra_forbidden") else ():
        if meant := nearest(str(loc[-1]), fields_at(model, loc[:-1])):
            others = _more(count - ((*loc[:-1], meant) in missing))
            return _refused(f"no such field; did you mean {meant}?{others}", _path(loc))
    more = _more(count)
    if first["type"] == "extra_forbidden":
        # The name of an unknown field is the sender's own text: name the object that holds it instead.
        known = ", ".join(fields_at(model, first["loc"][:-1]))
        return _refused(f"an unknown field; known are {known}{more}", _path(first["loc"][:-1]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        message += _did_you_mean(error)
    return _refused(message + more, _path(first["loc"]))


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _did_you_mean(error: ValidationError) -> str:
    """The value that the first error's input most likely means."""
    first: Any = error.errors(include_url=False)[0]
    meant = nearest(str(first["input"]), re.findall(r"'(\w+)'", first["ctx"]["expected"]))
    return f"; did you mean {meant}?" if meant else ""


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
