"""Settings of ``pad-teacher serve``: flags over ``PAD_TEACHER_*`` variables over a YAML file over these defaults."""

import datetime
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from pad_teacher.errors import TeacherError
from pad_torch.findings import FindingName
from pad_wire.rendering.template import DEFAULT_DATE

ENV_PREFIX = "PAD_TEACHER_"
VLLM_FLAG = "--vllm."
SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|ENV_\w+)"
)


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

    model: str = Field(description="directory or Hub id of the teacher")
    name: str | None = Field(None, description="name that clients see; default: the last part of --model")
    revision: str | None = Field(None, description="revision on the Hub, so that a restart serves the same weights")
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="runtime of the model; vllm is for large teachers, several GPUs and several nodes"
    )
    vllm: dict[str, Any] = Field({}, description="arguments of vLLM's engine, such as --vllm.tensor-parallel-size 4")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights; auto: the checkpoint's own on a GPU, float32 on a CPU"
    )
    device: str = Field("auto", description="torch device; auto: the first GPU if there is one")
    chat_template: Path | None = Field(None, description="Jinja file that replaces the tokenizer's own chat template")
    template_args: dict[str, Any] = Field(
        {}, description='arguments of the chat template, as in {"enable_thinking": false}'
    )
    date: datetime.date = Field(
        DEFAULT_DATE, description="day that a chat template which writes the date is told, the same for all replicas"
    )
    question: Path | None = Field(
        None, description="YAML file with the multiple-choice question: system, user, option, separator, answer"
    )
    allow: list[FindingName] = Field(
        [],
        description="findings at loading that are no reason to refuse: unused-weights, tokenizer-file,"
        " tokenizer-round-trip",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8010, description="port to listen on")
    keys: Path | None = Field(None, description="key file; required to be reached from other machines")
    allow_anonymous: bool = Field(False, description="serve other machines without keys, on a trusted network")
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate chain; makes the service HTTPS"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, without a passphrase")
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        2 * 2**20, description="largest request body; reading one of 2 MiB delays other requests by about 10 ms"
    )
    max_context_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="longest prompt and response together; default: the model's own limit"
    )
    max_batch_tokens: Annotated[int, Field(ge=16)] = Field(
        8192, description="tokens of one forward pass; more fills a large GPU, fewer save memory"
    )
    max_queued_tokens: Annotated[int, Field(ge=16)] = Field(
        1_000_000, description="tokens of all clients that may wait; further requests get 429"
    )
    data: Path | None = Field(
        None, description="directory that keeps the score cache and usage across restarts; default: none"
    )
    cache_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * 2**20, description="size of the score cache; 0 turns reuse off"
    )
    drain_seconds: Annotated[int, Field(ge=0)] = Field(
        30, description="seconds that SIGTERM waits for requests under way"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    config: Path | None = Field(None, description="YAML file with any of these settings")

    @field_validator("vllm")
    @classmethod
    def _as_typed(cls, vllm: dict[str, Any]) -> dict[str, Any]:
        """Spell names as Python does, and read texts as YAML: every flag and variable is a text."""
        typed: dict[str, Any] = {}
        for name, value in vllm.items():
            field = name.replace("-", "_").lower()
            if field in typed:
                raise ValueError(f"{field} is given in two spellings")
            typed[field] = yaml.safe_load(value) if isinstance(value, str) else value
        return typed

    @field_validator("template_args")
    @classmethod
    def _as_values(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """A flag NAME=VALUE gives a text: it is read as YAML, so that ``false`` is false."""
        return {name: yaml.safe_load(value) if isinstance(value, str) else value for name, value in arguments.items()}

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
        """The environment, then the YAML file. pydantic-settings itself puts the flags before both."""
        return init_settings, env_settings, _SettingsFile(settings_cls)


class _SettingsFile(PydanticBaseSettingsSource):
    """The YAML file that ``--config`` or ``PAD_TEACHER_CONFIG`` names, if any."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: ``__call__`` reads the file as a whole."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        file = self.current_state.get("config")  # from the flags or the environment, which are read before
        if file is None:
            return {}
        if not Path(file).is_file():
            raise BadSettings(f"no settings file at {file}")
        return YamlConfigSettingsSource(self.settings_cls, file)()


class BadSettings(TeacherError):
    """A setting is unknown, missing or of the wrong kind; the message is one line."""


def read_settings(arguments: list[str]) -> ServeSettings:
    """Settings from the flags in ``arguments``, the environment and the YAML file.

    Raises:
        BadSettings: naming the first setting that is wrong, and its flag and variable.
    """
    _refuse_unknown_variables()
    try:
        return CliApp.run(ServeSettings, cli_args=_with_vllm_joined(arguments))
    except (yaml.YAMLError, SettingsError) as error:
        raise BadSettings(" ".join(str(error).split())) from None
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # several settings do not fit together: the message names them
            raise BadSettings(first["msg"].removeprefix("Value error, ")) from None
        field = str(first["loc"][0])
        flag = field.replace("_", "-")
        raise BadSettings(f"--{flag} ({ENV_PREFIX}{field.upper()}): {first['msg']}") from None


def _refuse_unknown_variables() -> None:
    """Refuse a misspelt variable; drop service links, which are no settings.

    Raises:
        BadSettings: naming the variable.
    """
    known = {f"{ENV_PREFIX}{field}".upper() for field in ServeSettings.model_fields}
    for variable in list(os.environ):
        name = variable.upper()
        if not name.startswith(ENV_PREFIX) or name.startswith(f"{ENV_PREFIX}VLLM__"):
            continue
        if is_service_link(name, os.environ[variable]):
            # The settings' own reader would take PAD_TEACHER_PORT=tcp://… for --port.
            del os.environ[variable]
        elif name not in known:
            raise BadSettings(f"no setting is called {variable}")


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes, or Docker's links, put the variable there for a service whose name begins like ours."""
    if SERVICE_LINK.fullmatch(name.removeprefix(ENV_PREFIX)):
        return True
    return name.endswith("PORT") and value.startswith(("tcp://", "udp://", "sctp://"))


def _with_vllm_joined(arguments: list[str]) -> list[str]:
    """Join every ``--vllm.NAME VALUE`` to one ``--vllm JSON``, the form that pydantic-settings reads.

    A flag without a value is true.
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
