"""Reads one command's settings: flags override environment variables, then YAML, then defaults."""

import difflib
import inspect
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pad_student.commands.settings import DistillSettings, Settings, TrainingSettings, training_arguments
from pad_student.errors import BadSettings, UsageError

ENV_PREFIX = "PAD_STUDENT_"
CONFIG_HELP = "YAML file with any of these settings."

Command = TypeVar("Command", bound=Settings)


def load(command: type[Command], program: str, arguments: Sequence[str]) -> Command:
    """Read the settings of one command; ``--help`` prints them and exits.

    Raises:
        UsageError: for flags that cannot be parsed.
        BadSettings: for a value from any source that is missing, unknown or out of range.
    """
    loader = _loader(command)
    own, trainer = _split_flags(command, arguments)
    try:
        flags = CliSettingsSource(loader, cli_prog_name=program, cli_parse_args=own)
        given = flags()
    except SettingsError as error:
        raise UsageError(f"{str(error).removeprefix('error parsing CLI: ')}; see {program} --help") from None
    config = given.get("config")
    try:
        values = loader(_cli_settings_source=flags, **{**(_read_yaml(Path(config)) if config else {}), **trainer})
    except (ValidationError, SettingsError) as error:
        raise BadSettings(_one_line(error, command)) from None
    return command.model_construct(**{name: getattr(values, name) for name in command.model_fields})


def refuse_unknown_variables(commands: Iterable[type[Settings]]) -> None:
    """Refuse variables of no command: a misspelt one would silently change nothing.

    Raises:
        BadSettings: naming the variable.
    """
    known = {ENV_PREFIX + name.upper() for command in commands for name in command.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    if unknown:
        raise BadSettings(f"{unknown[0]} is in the environment, but no command has such a setting")


class _Sources(BaseSettings):
    """Where values come from. Flags override both of these sources; YAML is what the loader is called with."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


class _ConfigFlag(BaseModel):
    config: Path | None = Field(None, description=CONFIG_HELP)


class _ConfigArgument(BaseModel):
    config: CliPositionalArg[Path | None] = Field(None, description=CONFIG_HELP)


def _loader(command: type[Settings]) -> type[BaseSettings]:
    """The settings of ``command`` together with the sources that fill them."""
    config = _ConfigArgument if issubclass(command, DistillSettings) else _ConfigFlag
    doc = inspect.cleandoc(command.__doc__ or "")
    loader: Any = create_model(command.__name__, __base__=(command, config, _Sources), __doc__=doc)
    return loader


def _split_flags(command: type[Settings], arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The command's own flags, spelled as its parser expects, and the fields of TrainingArguments by name."""
    own: list[str] = []
    trainer: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, has_value, value = argument.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not argument.startswith("--"):
            own.append(argument)
        elif issubclass(command, TrainingSettings) and not _is_own(command, name):
            if not has_value:
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
            trainer[name] = _as_value(value)
        else:
            flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
            own.extend([flag, value] if has_value else [flag])
    return own, trainer


def _is_own(command: type[Settings], name: str) -> bool:
    return name in ("help", "config") or name in command.model_fields


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise BadSettings(f"{path} must hold settings, as in `model: DIR`")
    if "config" in values:
        raise BadSettings(f"{path}: config is not a setting")
    return values


def _as_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _one_line(error: ValidationError | SettingsError, command: type[Settings]) -> str:
    if isinstance(error, SettingsError):
        return " ".join(str(error).split())
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        flag = name.replace("_", "-")
        return f"{name} is missing: give --{flag}, {ENV_PREFIX}{name.upper()}, or {name} in a YAML file"
    if first["type"] == "extra_forbidden":
        others = training_arguments() if issubclass(command, TrainingSettings) else ()
        near = difflib.get_close_matches(name, [*command.model_fields, *others], 1)
        return f"{name} is not a setting of this command" + (f"; did you mean {near[0]}?" if near else "")
    return f"{name}: {first['msg']}"


# pyright: standard
