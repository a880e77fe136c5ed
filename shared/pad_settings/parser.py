"""argparse with help that is read from the top: usage, required settings, the others in groups, examples."""

import re
import shutil
from argparse import Action, ArgumentParser, BooleanOptionalAction, HelpFormatter, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pad_settings.fields import GENERAL, REQUIRED, Group, groups
from pad_settings.values import as_yaml

METAVARS = {int: "N", float: "X", Path: "PATH", bool: "", SecretStr: "KEY", dict: "NAME=VALUE"}
COLUMN = 30  # of the texts


class WrongUsage(ValueError):
    """A command line or a setting that is wrong; the message is one line."""


class SettingsParser(ArgumentParser):
    """A command's parser.

    Args:
        name: of the program and its command.
        settings: of the command.
        general: settings that every command has.
        positional: the setting that may be given without its flag.
        examples: command lines, shown below everything else.
    """

    def __init__(
        self,
        name: str,
        settings: type[BaseModel],
        general: type[BaseModel],
        positional: str | None,
        examples: Sequence[str],
    ) -> None:
        super().__init__(prog=name, description=settings.__doc__, allow_abbrev=False)
        self._groups = [*groups(settings), Group(GENERAL, dict(general.model_fields))]
        self._positional = positional
        self._examples = examples
        if positional:
            self.add_argument(positional.upper(), nargs="?")

    def error(self, message: str) -> NoReturn:
        """Raise a WrongUsage."""
        raise WrongUsage(f"{message}; see {self.prog} --help")

    def parse_settings(self, arguments: Sequence[str]) -> Namespace:
        """Parse flags, and the setting without one, in any order."""
        found = self.parse_intermixed_args(arguments)
        if self._positional:
            given = vars(found).pop(self._positional.upper(), None)
            if given is not None:
                if hasattr(found, self._positional):
                    self.error(f"{self._positional} is given twice: {given!r} and --{self._positional}")
                setattr(found, self._positional, given)
        return found

    def format_help(self) -> str:
        """Usage, description, groups, examples."""
        formatter = HelpFormatter(self.prog, max_help_position=COLUMN)
        paragraphs = re.split(r"\n\s*\n", (self.description or "").strip())
        for paragraph in paragraphs:
            formatter.add_text(paragraph)
        for group in self._groups:
            formatter.start_section(group.title)
            formatter.add_arguments(list(self._actions_of(group)))
            formatter.end_section()
        text = f"{self.format_usage()}\n{formatter.format_help()}"
        if self._examples:
            text += "\nExamples:\n" + "".join(f"  {line}\n" for line in self._examples)
        return text

    def format_usage(self) -> str:
        """What must be given, the setting without a flag first."""
        required = dict[str, FieldInfo]()
        for group in self._groups:
            required |= group.fields if group.title == REQUIRED else {}
        plain = [action.dest for action in self._actions if not action.option_strings]
        words = [f"[{name.upper()}]" if name.lower() not in required else name.upper() for name in plain]
        for name, field in required.items():
            if name != self._positional and name not in plain:
                words.append(f"{self._action(name).option_strings[0]} {metavar(field)}")
        columns = shutil.get_terminal_size().columns - 2
        text = " ".join(["usage:", self.prog, *words, "[--setting value ...]"])
        return "\n".join(wrap(text, columns, subsequent_indent=" " * 7, break_on_hyphens=False)) + "\n"

    def listed(self) -> list[Action]:
        """All settings as the help lists them."""
        found = [action for group in self._groups for action in self._actions_of(group) if action.dest != "help"]
        plain = [action for action in self._actions if not action.option_strings and action not in found]
        return [*plain, *found]

    def _action(self, name: str) -> Action:
        return next(action for action in self._actions if action.dest == name)

    def _actions_of(self, group: Group) -> Iterator[Action]:
        for name, field in group.fields.items():
            action = self._action(name)
            action.help = description(field).replace("%", "%%")
            if isinstance(action, BooleanOptionalAction):
                wanted = "--no-" if field.default is True else "--"
                plain = Action([f"{wanted}{name.replace('_', '-')}"], name, nargs=0, help=action.help)
                yield plain
                continue
            if action.option_strings:
                action.metavar = metavar(field)
            yield action
        if group.title == GENERAL:
            yield self._action("help")


def description(field: FieldInfo) -> str:
    """A setting's text, with its default if it has one."""
    text = " ".join((field.description or "").split())
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if default is None or default is False or default in ({}, [], ""):
        return text
    return f"{text.rstrip('.')} (default: {as_yaml(default)})"


def metavar(field: FieldInfo) -> str:
    """The kind of a setting's value, for the help."""
    kind = _kind(field.annotation)
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        chosen = _kind(item)
        return "{" + ",".join(map(str, get_args(chosen))) + "}" if get_origin(chosen) is Literal else "TEXT"
    return METAVARS.get(get_origin(kind) or kind, "TEXT")


def _kind(annotation: Any) -> Any:
    """The first type of a union that is not None, without its notes."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        kinds = get_args(annotation)
        if get_origin(annotation) is Annotated:
            annotation = kinds[0]
        else:
            annotation = next(kind for kind in kinds if kind is not NoneType)
    return annotation
