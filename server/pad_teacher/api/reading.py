"""From a body to a request: a large one is read part by part, so that nobody waits for all of it."""

from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from pad_teacher.api.wide_objects import has_wide_object
from pad_teacher.runtime.reading_thread import Steps
from pad_wire import ErrorDetail, ResponseSet
from pad_wire.scoring import MAX_SETS, ScoringRequest
from pad_wire.sets import Message
from pad_wire.text import WireModel
from pad_wire.validation import InvalidBody, parse, validated

LARGE_BYTES = 2**16  # smaller bodies are read in a few milliseconds
MOST_FIELDS = 64  # of one object; the models have far fewer
MOST_VALUES = 1024  # of one field, apart from sets and prompts
IDS_A_STEP, TEXTS_A_STEP = 16_384, 64  # about a millisecond

Model = TypeVar("Model", bound=WireModel)

_messages = TypeAdapter(list[Message])


def read_request(model: type[Model], body: bytearray, large_bytes: int = LARGE_BYTES) -> Steps[Model]:
    """What ``parse`` makes of ``body``; if it is large, in steps of one set or some prompts.

    Raises:
        InvalidBody: as ``parse``; with the fewest words if an object has a great many fields, or a field values.
    """
    if len(body) < large_bytes:
        return parse(model, body)
    if (yield from has_wide_object(body, MOST_VALUES)):
        raise _refused("an object with many unknown fields")
    try:
        value: Any = from_json(body, allow_inf_nan=False, cache_strings="none")  # many names make a cache slow
    except ValueError:
        return parse(model, body)  # which says what is wrong
    yield
    fields = _fields(value)
    for name, held in fields.items():
        if name not in ("sets", "prompt") and isinstance(held, list | dict) and len(cast(Any, held)) > MOST_VALUES:
            raise _refused("a field of too many values")
    in_parts = _sets if issubclass(model, ScoringRequest) else _prompts
    return (yield from in_parts(model, fields)) or validated(model, value)


def _sets(model: type[Model], fields: dict[str, Any]) -> Steps[Model | None]:
    """The request, read set by set; None if it has no such list."""
    sets: Any = fields.get("sets")
    if not isinstance(sets, list) or not 0 < len(cast(list[Any], sets)) <= MAX_SETS:
        return None
    read: list[ResponseSet] = []
    for index, item in enumerate(cast(list[Any], sets)):
        turns = _fields(item).get("prompt")
        known = (yield from _turns(cast(list[Any], turns))) if isinstance(turns, list) else None
        read.append(_set(model, fields, item | {"prompt": known} if known else item, index))
        yield
    around = validated(model, fields | {"sets": [{"prompt": "?", "responses": ["?"]}]})
    return around.model_copy(update={"sets": read})


def _turns(turns: list[Any]) -> Steps[list[Message] | None]:
    """The messages of a prompt; None if one is wrong."""
    read: list[Message] = []
    for start in range(0, len(turns), TEXTS_A_STEP):
        try:
            read += _messages.validate_python(turns[start : start + TEXTS_A_STEP])
        except ValidationError:
            return None
        yield
    return read


def _prompts(model: type[Model], fields: dict[str, Any]) -> Steps[Model | None]:
    """A request of completions, read some prompts or ids at a time; None if it has no such list, or one is wrong."""
    if not isinstance(fields.get("prompt"), list) or not fields["prompt"]:
        return None
    prompts: list[Any] = fields["prompt"]
    kind = _kind(prompts[0])
    if kind != "int" and len(prompts) > MOST_VALUES:
        return None
    size = IDS_A_STEP if kind == "int" else TEXTS_A_STEP
    read: list[Any] = []
    request: Any = None
    for start in range(0, len(prompts), size):
        part = prompts[start : start + size]
        try:
            request = validated(model, fields | {"prompt": part})
        except InvalidBody:
            return None
        if _kind(part[0]) != kind:
            return None
        read += request.prompt
        yield
    return request.model_copy(update={"prompt": read})


def _kind(prompt: Any) -> str:
    return type(prompt).__name__


def _set(model: type[WireModel], fields: dict[str, Any], item: Any, index: int) -> ResponseSet:
    try:
        return ResponseSet.model_validate(item)
    except ValidationError:
        pass
    try:
        validated(model, fields | {"sets": [item]})
    except InvalidBody as error:
        where = error.detail.where and error.detail.where.replace("sets[0]", f"sets[{index}]", 1)
        raise InvalidBody(error.detail.model_copy(update={"where": where})) from None
    raise AssertionError  # a set that is wrong alone is wrong in its request


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an object; none if it is no object. One of many unknown fields gets no error for each of them."""
    fields = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    if len(fields) > MOST_FIELDS:
        raise _refused("an object with many unknown fields")
    return fields


def _refused(message: str) -> InvalidBody:
    return InvalidBody(ErrorDetail(code="invalid_request", message=message, retryable=False))
