"""A command's settings in groups: those that must be given first, then by the class that has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import CliSuppress

REQUIRED = "Required"
GENERAL = "General"


@dataclass(frozen=True, slots=True)
class Group:
    """Settings under one heading, by name."""

    title: str
    fields: dict[str, FieldInfo]


def groups(settings: type[BaseModel]) -> list[Group]:
    """The settings of a command. The first line of a class's docstring is the heading of its settings."""
    shown = {name: field for name, field in settings.model_fields.items() if not is_hidden(field)}
    must = sorted((name for name in shown if shown[name].is_required()), key=lambda name: name != "model")
    required = {name: shown[name] for name in must}
    found = [Group(REQUIRED, required)] if required else []
    for owner, names in _by_owner(settings).items():
        fields = {name: shown[name] for name in names if name in shown and name not in required}
        if fields:
            found.append(Group("Options" if owner is settings else _heading(owner), fields))
    return sorted(found, key=lambda group: (group.title != REQUIRED, group.title != "Options"))


def is_hidden(field: FieldInfo) -> bool:
    """Whether a setting is no flag, and stands in no list."""
    return any(note in field.metadata for note in CliSuppress[Any].__metadata__)


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is shown to nobody."""
    return field.annotation is SecretStr or SecretStr in getattr(field.annotation, "__args__", ())


def _by_owner(settings: type[BaseModel]) -> dict[type, Sequence[str]]:
    """The names that each class declares; a setting that is declared twice is that of the one further down."""
    owners: dict[str, type] = {}
    for owner in reversed(settings.__mro__):
        for name in vars(owner).get("__annotations__", {}):
            if name in settings.model_fields and name not in owners:
                owners[name] = owner
    found: dict[type, list[str]] = {}
    for owner in settings.__mro__:
        names = [name for name, own in owners.items() if own is owner]
        if names:
            found[owner] = names
    return dict(found)


def _heading(owner: type) -> str:
    return (owner.__doc__ or owner.__name__).strip().splitlines()[0].rstrip(".")
