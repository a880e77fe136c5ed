"""Settings of ``pad-teacher serve``: flags over ``PAD_TEACHER_*`` variables over a YAML file over these defaults."""

import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from pad_teacher.errors import TeacherError

ENV_PREFIX = "PAD_TEACHER_"
VLLM_FLAG = "--vllm."


class ServeSettings(BaseSettings):
    """Serve one teacher over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_prog_name="pad-teacher serve",
        protected_namespaces=(),
    )

    model: str = Field(description="directory or hub id of the teacher")
    name: str | None = Field(None, description="name that clients see; default: the last part of --model")
    revision: str | None = Field(None, description="hub revision, so that a restart serves the same weights")
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="runtime that holds the model; vllm: large teachers, on several GPUs or nodes"
    )
    vllm: dict[str, Any] = Field(
        {}, description="any argument of vLLM's engine, as --vllm.tensor-parallel-size 4 and the like"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the weights; auto: the checkpoint's own on a GPU, float32 on a CPU"
    )
    device: str = Field("auto", description="torch device; auto: the first GPU if there is one")
    chat_template: Path | None = Field(None, description="a Jinja file in place of the tokenizer's own template")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8010, description="port to listen on")
    keys: Path | None = Field(None, description="key file; needed to listen on more than this machine")
    allow_anonymous: bool = Field(False, description="listen on other addresses without keys, on a trusted network")
    tls_certificate: Path | None = Field(None, description="PEM file: serve HTTPS with this certificate chain")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, without a passphrase")
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        2 * 2**20, description="largest request body; reading one of 2 MiB delays other requests by about 10 ms"
    )
    max_context_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="longest prompt with response; default: all that the model takes"
    )
    max_batch_tokens: Annotated[int, Field(ge=16)] = Field(
        8192, description="tokens of one forward pass: more fills a large GPU, less saves memory"
    )
    max_queued_tokens: Annotated[int, Field(ge=16)] = Field(
        1_000_000, description="tokens that may wait, of all clients together: past it they get 429"
    )
    data: Path | None = Field(
        None, description="directory for what outlives a restart: the score cache and usage; default: memory alone"
    )
    cache_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * 2**20, description="size of the score cache; 0: every request is computed by itself"
    )
    drain_seconds: Annotated[int, Field(ge=0)] = Field(
        30, description="how long SIGTERM waits for requests under way"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    config: Path | None = Field(None, description="YAML file with any of these settings")

    @field_validator("vllm")
    @classmethod
    def _as_typed(cls, vllm: dict[str, Any]) -> dict[str, Any]:
        """Names as Python has them, and values as YAML reads them: flags and variables are all text."""
        typed: dict[str, Any] = {}
        for name, value in vllm.items():
            field = name.replace("-", "_").lower()
            if field in typed:
                raise ValueError(f"{field} is given in two spellings")
            typed[field] = yaml.safe_load(value) if isinstance(value, str) else value
        return typed

    @model_validator(mode="after")
    def _fits_the_engine(self) -> "ServeSettings":
        if self.engine != "vllm" and self.vllm:
            raise ValueError(f"--vllm.{next(iter(self.vllm)).replace('_', '-')} needs --engine vllm")
        if self.engine == "vllm" and self.device != "auto":
            raise ValueError("--device is not for --engine vllm: CUDA_VISIBLE_DEVICES chooses its GPUs")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then YAML; pydantic-settings itself puts the flags before both."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


class BadSettings(TeacherError):
    """A setting is unknown, missing or of the wrong kind; the message is one line."""


def read_settings(arguments: list[str]) -> ServeSettings:
    """Settings of one run.

    Raises:
        BadSettings: naming the first setting that is wrong, and where it can be set.
    """
    known = {f"{ENV_PREFIX}{field}".upper() for field in ServeSettings.model_fields}
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(ENV_PREFIX) and name not in known and not name.startswith(f"{ENV_PREFIX}VLLM__"):
            raise BadSettings(f"no setting is called {variable}")
    # Flags and environment first, without YAML, only to learn which file that is.
    finder = ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path, default=os.environ.get(f"{ENV_PREFIX}CONFIG"))
    file = finder.parse_known_args(arguments)[0].config
    if file is not None and not Path(file).is_file():
        raise BadSettings(f"no settings file at {file}")
    configured = type("ServeSettings", (ServeSettings,), {"model_config": {"yaml_file": file}, "__doc__": _DOC})
    try:
        return CliApp.run(configured, cli_args=_with_vllm_joined(arguments))
    except (yaml.YAMLError, SettingsError) as error:
        raise BadSettings(" ".join(str(error).split())) from None
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # of several settings together: the message names them
            raise BadSettings(first["msg"].removeprefix("Value error, ")) from None
        field = str(first["loc"][0])
        flag = field.replace("_", "-")
        raise BadSettings(f"--{flag} ({ENV_PREFIX}{field.upper()}): {first['msg']}") from None


def _with_vllm_joined(arguments: list[str]) -> list[str]:
    """The arguments with every ``--vllm.NAME VALUE`` joined to one ``--vllm JSON``, which pydantic-settings takes.

    A flag with no value behind it is true.
    """
    kept: list[str] = []
    vllm: dict[str, str] = {}
    left = list(reversed(arguments))
    while left:
        name, equals, value = left.pop().partition("=")
        if not name.startswith(VLLM_FLAG):
            kept.append(name + equals + value)
            continue
        if not equals:
            value = left.pop() if left and not left[-1].startswith("--") else "true"
        vllm[name.removeprefix(VLLM_FLAG).replace("-", "_")] = value
    return [*kept, "--vllm", json.dumps(vllm)] if vllm else kept


_DOC = ServeSettings.__doc__
