"""Shell completion of commands and flags: a script, made by shtab from the commands' own parsers."""

from argparse import Action, ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pad_settings.parser import SettingsParser

SHELLS = ("bash", "zsh")


def script(program: str, commands: Mapping[str, ArgumentParser], shell: str) -> str:
    """A script for ``shell`` that completes ``program``'s commands, flags, choices and paths.

    Args:
        program: as it is typed.
        commands: each command's parser; a name may be two words.
        shell: one of ``SHELLS``.
    """
    import shtab

    root = ArgumentParser(program)
    root.add_argument("--version", action="store_true", help="print the version")
    groups: dict[str, Any] = {"": root.add_subparsers()}
    for name, parser in commands.items():
        group, _, last = name.rpartition(" ")
        if group not in groups:
            groups[group] = groups[""].add_parser(group, help=f"commands of {group}").add_subparsers()
        does = (parser.description or "").strip().splitlines()
        one: Any = groups[group].add_parser(last, help=does[0] if does else "")
        for action in actions_of(parser):
            if str(action.metavar).startswith("{"):
                action.choices = str(action.metavar).strip("{}").split(",")
            elif _is_path(action, parser):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            one._add_action(action)
    return shtab.complete(root, shell)


def actions_of(parser: ArgumentParser) -> list[Action]:
    """What a command takes, as its help lists it; without ``--help``."""
    if isinstance(parser, SettingsParser):
        return parser.listed()
    return [action for action in parser._actions if action.dest != "help"]


def _is_path(action: Action, parser: ArgumentParser) -> bool:
    without_flag = isinstance(parser, SettingsParser) and not action.option_strings
    return without_flag or action.metavar == "PATH" or action.type is Path


# pyright: standard
