"""Reads one command's settings: flags override environment variables, then YAML, then defaults."""

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from pad_settings import loader
from pad_settings.parser import WrongUsage
from pad_settings.shown import in_use
from pad_student.commands.programs import ENV_PREFIX, program_of
from pad_student.commands.settings import Settings
from pad_student.errors import UsageError
from pad_student.storage import voice

Command = TypeVar("Command", bound=Settings)


def load(command: type[Command], program: str, arguments: Sequence[str]) -> Command:
    """Read the settings of one command; ``--help`` and ``--print-config`` print, and exit.

    Raises:
        UsageError: for a command line that cannot be parsed, and for a value from any source that is missing, unknown
            or out of range.
    """
    described = program_of(command, program)
    try:
        found = loader.read(described, arguments)
    except WrongUsage as error:
        raise UsageError(str(error)) from None
    voice.choose(quiet=found.general.quiet, verbose=found.general.verbose)
    if found.general.print_config:
        print(in_use(described, found), end="")
        raise SystemExit(0)
    return cast(Command, found.settings)


def refuse_unknown_variables(commands: Iterable[type[Settings]]) -> None:
    """Refuse variables of no command: a misspelt one would silently change nothing.

    Raises:
        UsageError: naming the variable.
    """
    try:
        loader.refuse_unknown_variables(ENV_PREFIX, commands)
    except WrongUsage as error:
        raise UsageError(str(error)) from None
