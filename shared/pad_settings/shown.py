"""The settings in use, as YAML that reads back, with where each comes from."""

from typing import Any

from pad_settings.fields import is_hidden, is_secret
from pad_settings.loader import DEFAULT, Found, Program
from pad_settings.values import as_yaml


def in_use(program: Program[Any], found: Found[Any]) -> str:
    """One line a setting, the given ones first; a secret is not shown."""
    given: list[str] = []
    usual: list[str] = []
    for name, field in program.settings.model_fields.items():
        value: Any = getattr(found.settings, name)
        if is_hidden(field):
            given += [_line(str(each), value[each], found.origins.get(str(each), DEFAULT)) for each in value or ()]
        elif is_secret(field):
            if value is not None:
                given.append(f"# {name}: not shown  # {found.origins.get(name, DEFAULT)}")
        else:
            into = given if name in found.origins else usual
            into.append(_line(name, value, found.origins.get(name, DEFAULT)))
    return "\n".join([f"# {program.name}", *given, *usual]) + "\n"


def _line(name: str, value: Any, origin: str) -> str:
    return f"{name}: {as_yaml(value)}  # {origin}"
