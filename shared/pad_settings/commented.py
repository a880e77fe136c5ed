"""A file with every setting: those that must be given with a sample value, the others as comments."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic.fields import FieldInfo

from pad_settings.fields import REQUIRED, groups, is_secret
from pad_settings.loader import Program
from pad_settings.values import as_yaml

WIDTH = 100


class FileIsThere(ValueError):
    """The file that would be written is there already."""


def write_all_settings(
    program: Program[Any], path: Path, others: Iterable[tuple[str, str, Any]] = (), heading: str = ""
) -> None:
    """Write ``all_settings`` into a new file.

    Raises:
        FileIsThere: nothing is ever overwritten.
        OSError: the file cannot be written.
    """
    text = all_settings(program, path, others, heading)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FileIsThere(f"{path} is there already, and nothing is overwritten; name another file") from None


def all_settings(
    program: Program[Any], path: Path, others: Iterable[tuple[str, str, Any]] = (), heading: str = ""
) -> str:
    """Every setting with its description and default, as YAML that the program reads.

    Args:
        program: the command.
        path: of the file, for the line that says how to use it.
        others: name, description and default of settings that are no fields of the command's.
        heading: of ``others``.
    """
    flag = "" if program.positional == "config" else "--config "
    lines = _comment(f"{program.name} {flag}{path}")
    lines += _comment(
        "Settings without # are set; take a # away to set another. Flags and variables go before this file."
    )
    for group in groups(program.settings):
        lines += ["", *_comment(f"--- {group.title}")]
        for name, field in group.fields.items():
            lines += ["", *_comment(" ".join((field.description or "").split()))]
            lines += [_setting(program, name, field, group.title == REQUIRED or name in program.also_set)]
    rest = list(others)
    lines += ["", *_comment(f"--- {heading}")] if rest else []
    for name, text, default in rest:
        lines += ["", *_comment(text), f"#{name}: {as_yaml(default)}"]
    return "\n".join(lines) + "\n"


def _setting(program: Program[Any], name: str, field: FieldInfo, required: bool) -> str:
    if required:
        return f"{name}: {as_yaml(program.samples.get(name, name.upper()))}"
    if is_secret(field):
        return f"# Its place is {program.env_prefix}{name.upper()} in the environment."
    return f"#{name}: {as_yaml(field.get_default(call_default_factory=True))}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)]
