"""The fields that an object at some place of a model may have, found in the model's JSON schema."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from pad_wire.text import WireModel


def fields_at(model: type[WireModel], place: Sequence[int | str]) -> list[str]:
    """Names of the fields at ``place``, which is written as in pydantic's errors: ("sets", 3, "prompt", "<text>")."""
    whole = _schema(model)
    found = list(_forms(whole, whole))
    for part in place:
        inner = [each["items"] for each in found if "items" in each] if isinstance(part, int) else None
        if inner is None:
            inner = [each["properties"][part] for each in found if part in each.get("properties", ())]
        if inner or isinstance(part, int) or part.isidentifier():  # a union's tag is no step down
            found = [form for each in inner for form in _forms(each, whole)]
    return [name for each in found for name in each.get("properties", ())]


@cache
def _schema(model: type[WireModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _forms(schema: dict[str, Any], whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema itself, or all that a reference or a union stands for."""
    if "$ref" in schema:
        yield from _forms(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    elif options := schema.get("anyOf") or schema.get("oneOf"):
        for each in options:
            yield from _forms(each, whole)
    else:
        yield schema
