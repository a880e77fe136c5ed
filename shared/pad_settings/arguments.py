"""The command line in two parts: flags of settings, and those that a dictionary among the settings takes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from pad_settings.names import did_you_mean
from pad_settings.parser import WrongUsage
from pad_settings.values import from_text

OF_EVERY_COMMAND = ("help", "config", "print_config", "quiet", "verbose")


class TakesFlags(Protocol):
    """The part of a ``Program`` that decides which flags there are."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> type[BaseModel]: ...  # noqa: D102
    @property
    def takes(self) -> str | None: ...  # noqa: D102
    @property
    def takes_all(self) -> bool: ...  # noqa: D102
    @property
    def further(self) -> Callable[[], Iterable[str]]: ...  # noqa: D102


def split(program: TakesFlags, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The command's own flags, spelled as its parser expects, and the values of the others by name.

    Raises:
        WrongUsage: for a flag that is no setting, with the one that was meant.
    """
    own: list[str] = []
    taken: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, has_value, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not argument.startswith("--") or argument == "--":
            own.append(argument)
        elif (taker := _taker(program, name)) is not None:
            if not has_value:
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
            taker(taken)[name.removeprefix(f"{program.takes}.")] = from_text(value)
        elif _is_own(program, name):
            spelled = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
            own.extend([spelled, value] if has_value else [spelled])
        else:
            names = [*program.settings.model_fields, *OF_EVERY_COMMAND]
            right = did_you_mean(name, names, "--{}").replace("_", "-")
            raise WrongUsage(f"{flag} is not a setting of {program.name}{right}")
    return own, taken


def _taker(program: TakesFlags, name: str) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """Where the flag's value goes, among those that were taken; None for a flag of a setting."""
    if program.takes and name.startswith(f"{program.takes}."):
        holder = program.takes
        return lambda taken: taken.setdefault(holder, {})
    return (lambda taken: taken) if program.takes_all and not _is_own(program, name) else None


def _is_own(program: TakesFlags, name: str) -> bool:
    known = {*program.settings.model_fields, *OF_EVERY_COMMAND}
    return name in known or name.removeprefix("no_") in known
