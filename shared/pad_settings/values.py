"""A setting's value as one line of YAML that reads back as the same value, and the other way; YAML files."""

import datetime
from collections.abc import Sequence
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, cast

import yaml

WIDTH = 10**9  # never folded
# Also for a date, a number or a tag that is none, as in 2020-13-45, 0x_ and !!bool x, and for too many brackets.
NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


def as_yaml(value: Any) -> str:
    """One line."""
    plain = _plain(value)
    style = '"' if isinstance(plain, str) and "\n" in plain else None
    text = yaml.safe_dump(plain, default_flow_style=True, width=WIDTH, allow_unicode=True, default_style=style)
    return text.removesuffix("\n").removesuffix("...").strip()


def from_text(value: Any) -> Any:
    """A text read as YAML, so that ``false`` is false; what is no YAML stays a text, and no text stays itself."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except NO_YAML:
        return value


def from_file(path: Path) -> Any:
    """The value in a YAML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not YAML; the message is one line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except NO_YAML as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        named = cast(dict[Any, Any], value)
        return {str(name): _plain(each) for name, each in named.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast(Sequence[Any], value)]
    if value is None or isinstance(value, str | int | float | bool | datetime.date):
        return value
    return str(value)
