"""Reads one command's settings: flags override variables, these override YAML, and that overrides the defaults."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic_settings import BaseSettings, CliSettingsSource, EnvSettingsSource, SettingsConfigDict, SettingsError

from pad_settings.arguments import split
from pad_settings.fields import is_hidden
from pad_settings.names import did_you_mean, right_name
from pad_settings.parser import SettingsParser, WrongUsage
from pad_settings.values import from_file

DEFAULT = "default"

Settings = TypeVar("Settings", bound=BaseModel)


class General(BaseModel):
    """Settings of every command."""

    config: Path | None = Field(None, description="YAML file with any of these settings")
    print_config: bool = Field(False, description="print the settings in use and where each comes from, and exit")
    quiet: bool = Field(False, description="say nothing but warnings and errors")
    verbose: bool = Field(False, description="say more, as each request to a teacher")


def _none() -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Program(Generic[Settings]):
    """One command, and how its settings are given.

    Attributes:
        name: as in ``pad-student sample``.
        settings: its settings.
        env_prefix: of its variables.
        positional: the setting that may be given without its flag.
        takes: a dictionary among the settings that takes flags of its own: those after ``--NAME.``, or, with
            ``takes_all``, those that are no settings.
        takes_all: see ``takes``.
        further: names that ``takes`` may hold.
        examples: command lines for the help.
        samples: a value for each setting that must be given, for a file of settings.
        also_set: settings with a default that such a file sets too.
    """

    name: str
    settings: type[Settings]
    env_prefix: str
    positional: str | None = None
    takes: str | None = None
    takes_all: bool = False
    further: Callable[[], Iterable[str]] = _none
    examples: Sequence[str] = ()
    samples: Mapping[str, Any] = field(default_factory=dict[str, Any])
    also_set: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Found(Generic[Settings]):
    """Settings as they were read.

    Attributes:
        settings: of the command.
        general: of every command.
        origins: for each setting that was given, where: a flag, a variable, or a file.
    """

    settings: Settings
    general: General
    origins: Mapping[str, str]


def read(program: Program[Settings], arguments: Sequence[str]) -> Found[Settings]:
    """Read the settings of one command; ``--help`` prints them and exits.

    Raises:
        WrongUsage: for a command line that cannot be parsed, and for a value from any source that is missing,
            unknown or out of range.
    """
    sources = _sources(program)
    own, taken = split(program, arguments)
    try:
        flags = _spelled(program, merged(_flags(program, sources, own), taken))
        variables = _spelled(program, EnvSettingsSource(sources)())
        config = flags.get("config") or variables.get("config")
        file = _spelled(program, read_file(Path(config))) if config else {}
        general = General.model_validate({n: v for n, v in (variables | flags).items() if n in General.model_fields})
    except ValidationError as error:
        raise WrongUsage(_one_line(error, program, {})) from None
    except (SettingsError, RecursionError) as error:  # the latter for too many brackets
        raise WrongUsage(" ".join(str(error).split())) from None
    origins = dict.fromkeys(file, str(config))
    origins |= {name: program.env_prefix + name.upper() for name in variables}
    origins |= {name: f"--{name.replace('_', '-')}" for name in flags}
    values = merged(merged(file, variables), flags)
    given = {name: value for name, value in values.items() if name not in General.model_fields}
    try:
        return Found(program.settings.model_validate(given), general, origins)
    except ValidationError as error:
        raise WrongUsage(_one_line(error, program, origins)) from None


def read_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        WrongUsage: it is not there, or holds no settings.
    """
    try:
        values: Any = from_file(path)
    except OSError as error:
        raise WrongUsage(f"no settings file at {path}: {error.strerror}") from None
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    try:
        named = TypeAdapter(dict[str, Any]).validate_python(values, strict=True)
    except ValidationError:
        raise WrongUsage(f"{path} must hold settings, as in `model: DIR`") from None
    if general := [name for name in named if name in General.model_fields]:
        raise WrongUsage(f"{path}: {general[0]} is a flag, not a setting")
    # A file may spell names as flags are spelt.
    return {name.replace("-", "_"): value for name, value in named.items()}


def _spelled(program: Program[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values of one source, with the names that ``program.takes`` holds spelled as Python does.

    Raises:
        WrongUsage: a name is given in two spellings.
    """
    takes = program.takes or ""
    held = values.get(takes)
    if not isinstance(held, dict):
        return values
    spelled: dict[str, Any] = {}
    for name, value in cast(dict[Any, Any], held).items():
        field = str(name).replace("-", "_").lower()
        if field in spelled:
            raise WrongUsage(f"{takes}: {field} is given in two spellings")
        spelled[field] = value
    return values | {takes: spelled}


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Both, and ``high`` where they differ; dictionaries in them are merged too."""
    both: dict[str, Any] = dict(low)
    for name, value in high.items():
        pair: list[Any] = [both.get(name), value]
        both[name] = merged(*pair) if all(isinstance(each, dict) for each in pair) else value
    return both


def refuse_unknown_variables(env_prefix: str, settings: Iterable[type[BaseModel]]) -> None:
    """Refuse variables of no command: a misspelt one would silently change nothing.

    Raises:
        WrongUsage: naming the variable.
    """
    known = {name for each in (*settings, General) for name in each.model_fields}
    for variable in sorted(os.environ):
        if variable.upper().startswith(env_prefix):
            name = variable.upper().removeprefix(env_prefix).lower()
            if name.partition("__")[0] not in known:
                right = (right_name(name, known) or "").upper().replace(".", "__")
                hint = f"; did you mean {env_prefix}{right}?" if right else ""
                raise WrongUsage(f"{variable} is in the environment, but no command has such a setting{hint}")


def parser_of(program: Program[Any]) -> SettingsParser:
    """The command's parser with all of its flags."""
    parser, _ = _connected(program, _sources(program))
    return parser


def _flags(program: Program[Any], sources: type[BaseSettings], own: Sequence[str]) -> dict[str, Any]:
    parser, source = _connected(program, sources)
    return source(parsed_args=parser.parse_settings(own))()


def _connected(
    program: Program[Any], sources: type[BaseSettings]
) -> tuple[SettingsParser, CliSettingsSource[SettingsParser]]:
    parser = SettingsParser(program.name, program.settings, General, program.positional, program.examples)
    return parser, CliSettingsSource(sources, root_parser=parser)


def _sources(program: Program[Any]) -> type[BaseSettings]:
    class Sources(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=program.env_prefix,
            env_nested_delimiter="__",
            cli_kebab_case=True,
            cli_implicit_flags=True,
            cli_hide_none_type=True,
            cli_avoid_json=True,
            cli_exit_on_error=False,
            protected_namespaces=(),
        )

    made: Any = create_model(program.settings.__name__, __base__=(program.settings, General, Sources))
    return made


def _one_line(error: ValidationError, program: Program[Any], origins: Mapping[str, str]) -> str:
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    message = first["msg"].removeprefix("Value error, ")
    name = ".".join(map(str, first["loc"]))
    top = name.partition(".")[0]
    if not name:  # several settings do not fit together: the message names them
        return message
    if first["type"] == "missing":
        ways = [f"--{name.replace('_', '-')}", program.env_prefix + name.upper(), f"or {name} in a YAML file"]
        return f"{name} is missing: give {', '.join([name.upper()] * (name == program.positional) + ways)}"
    if first["type"] == "extra_forbidden":
        names = [each for each, field in program.settings.model_fields.items() if not is_hidden(field)]
        hint = did_you_mean(name, [*names, *program.further()])
        place = "" if origins.get(top, "--").startswith("--") else f" ({origins[top]})"
        return f"{name} is not a setting of this command{hint}{place}"
    return f"{name}: {message}" + (f" (from {origins[top]})" if top in origins else "")
