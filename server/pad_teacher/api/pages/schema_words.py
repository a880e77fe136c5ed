"""A field of a JSON schema in words, for the page at ``/docs`` and for ``docs/reference/``."""

import json
from collections.abc import Iterator
from typing import Any, Literal

Piece = tuple[Literal["text", "code", "model"], str]

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
}


def kind_of(field: dict[str, Any]) -> Iterator[Piece]:
    """The field's type and bounds in pieces, which a page joins as they are: names of models become links."""
    if "$ref" in field:
        yield "model", field["$ref"].rpartition("/")[2]
    elif options := [each for each in field.get("anyOf", field.get("oneOf", ())) if each.get("type") != "null"]:
        yield from _joined((list(kind_of(each)) for each in options), " or ")
    elif "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        yield from _joined(([("code", str(value))] for value in values), ", ")
    else:
        if "items" in field:
            yield "text", "list of "
            yield from kind_of(field["items"])
        else:
            yield "text", str(field.get("format", field.get("type", "any")))
        for name, said in _BOUNDS.items():
            if name in field:
                yield "text", f", {said.format(field[name])}"


def default_of(field: dict[str, Any]) -> str:
    """The field's default; empty if it has none."""
    value = field.get("default")
    return "" if value in (None, {}) else json.dumps(value, ensure_ascii=False).replace('"', "")


def _joined(parts: Iterator[list[Piece]], between: str) -> Iterator[Piece]:
    for number, part in enumerate(parts):
        if number:
            yield "text", between
        yield from part
