"""Settings of ``pad-teacher serve``: flags over ``PAD_TEACHER_*`` variables over a YAML file over these defaults."""

import datetime
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pad_settings import loader
from pad_settings.loader import Program
from pad_settings.parser import WrongUsage
from pad_settings.shown import in_use
from pad_settings.values import from_text
from pad_teacher.errors import TeacherError
from pad_torch.findings import FindingName
from pad_wire.rendering.template import DEFAULT_DATE

ENV_PREFIX = "PAD_TEACHER_"
SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|ENV_\w+)"
)


NOT_FOR_UPSTREAMS = (
    "revision",
    "reference",
    "dtype",
    "device",
    "allow",
    "chat_template",
    "template_args",
    "max_context_tokens",
    "max_batch_tokens",
)


class ModelSettings(BaseModel):
    """The model and the runtime that it runs on."""

    model: str = Field(description="directory or Hub id of the teacher")
    name: str | None = Field(None, description="name that clients see; default: the last part of --model")
    revision: str | None = Field(None, description="revision on the Hub, so that a restart serves the same weights")
    reference: str | None = Field(
        None,
        description="directory or Hub id of the model that the teacher was aligned from: /v1/token_logprobs then"
        " answers for both",
    )
    reference_revision: str | None = Field(None, description="its revision on the Hub")
    engine: Literal["transformers", "vllm", "openai"] = Field(
        "transformers",
        description="runtime of the model; vllm is for large teachers, several GPUs and several nodes; openai asks a"
        " model behind an API, which only chooses",
    )
    vllm: dict[str, Any] = Field({}, description="arguments of vLLM's engine, such as --vllm.tensor-parallel-size 4")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights; auto: the checkpoint's own on a GPU, float32 on a CPU"
    )
    device: str = Field("auto", description="torch device; auto: the first GPU if there is one")
    allow: list[FindingName] = Field(
        [],
        description="findings at loading that are no reason to refuse, by name as in the message",
    )

    @field_validator("vllm")
    @classmethod
    def _as_typed(cls, vllm: dict[str, Any]) -> dict[str, Any]:
        """Read texts as YAML: every variable is a text."""
        return {name: from_text(value) for name, value in vllm.items()}


class UpstreamSettings(BaseModel):
    """A model behind an OpenAI-compatible chat API, for --engine openai."""

    upstream: str | None = Field(None, description="base URL of the API, as in https://api.openai.com/v1")
    upstream_model: str | None = Field(None, description="the model's name there; it takes the place of --model")
    upstream_key_file: Path | None = Field(None, description="file with the API's key on its one line")
    upstream_timeout: Annotated[float, Field(gt=0)] = Field(60, description="seconds for one answer of the API")
    upstream_concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        8, description="requests to the API at the same time"
    )
    upstream_tokens_per_day: Annotated[int, Field(ge=0)] = Field(
        1_000_000, description="tokens, as the API counts them, of a UTC day; kept across restarts with --data"
    )
    upstream_answer_tokens: Annotated[int, Field(ge=4)] = Field(
        16, description="most tokens of an answer; a model that thinks before it answers needs thousands"
    )
    upstream_votes: Annotated[int, Field(ge=2, le=1024)] = Field(
        16, description="most votes on a set, if the API returns no log-probabilities"
    )
    upstream_vote_width: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="width of the widest 95 % interval at which no more votes are asked for"
    )


class ConversationSettings(BaseModel):
    """How conversations and questions are written."""

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

    @field_validator("template_args")
    @classmethod
    def _as_values(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """A flag NAME=VALUE gives a text: it is read as YAML, so that ``false`` is false."""
        return {name: from_text(value) for name, value in arguments.items()}


class NetworkSettings(BaseModel):
    """Where the service listens, and who may use it."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8010, description="port to listen on")
    keys: Path | None = Field(None, description="key file; required to be reached from other machines")
    allow_anonymous: bool = Field(False, description="serve other machines without keys, on a trusted network")
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate chain; makes the service HTTPS"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, without a passphrase")

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        """An IPv6 address may be given as URLs write it, as ``[::1]``."""
        return host.removeprefix("[").removesuffix("]")


class LimitSettings(BaseModel):
    """The limits of requests and connections."""

    max_context_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="longest prompt and response together; default: the model's own limit"
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        2 * 2**20,
        description="largest request body, half of it for /v1/completions; reading one of 2 MiB delays other requests"
        " by about 10 ms",
    )
    headers_seconds: Annotated[float, Field(gt=0)] = Field(
        10, description="seconds for a TLS handshake, and for a request's headers: then the connection is closed"
    )
    body_idle_seconds: Annotated[float, Field(gt=0)] = Field(
        30, description="seconds in which nothing of a body arrives: then 408; a peer that vanished sends no more"
    )
    body_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="seconds for a whole body: then 408; a slow client holds memory for no longer"
    )
    reply_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="seconds in which a client takes nothing of its reply: then the connection is closed"
    )
    max_connections: Annotated[int, Field(ge=16)] = Field(
        2048, description="connections at the same time; if all are taken, the one longest silent gives way"
    )


class OperationSettings(BaseModel):
    """Batches, queue, memory and logs."""

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


class ServeSettings(
    ModelSettings, UpstreamSettings, ConversationSettings, NetworkSettings, LimitSettings, OperationSettings
):
    """Serve one teacher over HTTP."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _upstream_is_the_model(cls, given: Any) -> Any:
        """``--upstream-model`` takes the place of the required ``--model``."""
        if not isinstance(given, dict):
            return given
        fields = cast(dict[str, Any], given)
        if fields.get("engine") != "openai":
            return fields
        for name in ("upstream", "upstream_model"):
            if not fields.get(name):
                raise ValueError(f"--engine openai needs --{name.replace('_', '-')}")
        if fields.setdefault("model", fields["upstream_model"]) != fields["upstream_model"]:
            raise ValueError("--model is not for --engine openai: --upstream-model names the model")
        return fields

    @model_validator(mode="after")
    def _fits_the_engine(self) -> "ServeSettings":
        ours = self.engine == "openai"
        for name in NOT_FOR_UPSTREAMS if ours else UpstreamSettings.model_fields:
            if getattr(self, name) != ServeSettings.model_fields[name].default:
                why = "is not for --engine openai: the API has the model" if ours else "needs --engine openai"
                raise ValueError(f"--{name.replace('_', '-')} {why}")
        if self.engine != "vllm" and self.vllm:
            raise ValueError(f"--vllm.{next(iter(self.vllm)).replace('_', '-')} needs --engine vllm")
        if self.engine == "vllm" and self.reference:
            raise ValueError("--reference needs --engine transformers: vLLM cannot score at given ids")
        if self.reference_revision and not self.reference:
            raise ValueError("--reference-revision needs --reference")
        if self.engine == "vllm" and self.device != "auto":
            raise ValueError("--device is not for --engine vllm: CUDA_VISIBLE_DEVICES chooses its GPUs")
        return self


class BadSettings(TeacherError):
    """A setting that cannot be used on this machine; the message is one line."""


class UsageError(BadSettings):
    """A setting is unknown, missing or of the wrong kind; the message is one line."""


SERVE = Program(
    "pad-teacher serve",
    ServeSettings,
    ENV_PREFIX,
    positional="model",
    takes="vllm",
    examples=(
        "pad-teacher serve path/to/teacher",
        "pad-teacher serve path/to/teacher --host 0.0.0.0 --keys keys.json --data data",
        "pad-teacher serve path/to/teacher --engine vllm --vllm.tensor-parallel-size 4",
        "pad-teacher serve --engine openai --upstream https://api.openai.com/v1 --upstream-model gpt-4.1-mini"
        " --upstream-key-file key.txt",
        "pad-teacher serve --config teacher.yaml",
    ),
    samples={"model": "path/to/teacher"},
)


def read_settings(arguments: list[str]) -> ServeSettings:
    """Settings from the flags in ``arguments``, the environment and the YAML file.

    ``--help`` and ``--print-config`` print, and exit.

    Raises:
        UsageError: naming the first setting that is wrong, and where it was given.
    """
    _drop_service_links()
    try:
        loader.refuse_unknown_variables(ENV_PREFIX, [ServeSettings])
        found = loader.read(SERVE, arguments)
    except WrongUsage as error:
        raise UsageError(str(error)) from None
    flag = "quiet" if found.general.quiet else "verbose" if found.general.verbose else None
    if flag and "log_level" not in found.origins:
        level = {"log_level": "warning" if flag == "quiet" else "debug"}
        settings = found.settings.model_copy(update=level)
        found = replace(found, settings=settings, origins={**found.origins, "log_level": found.origins[flag]})
    if found.general.print_config:
        print(in_use(SERVE, found), end="")
        raise SystemExit(0)
    return found.settings


def _drop_service_links() -> None:
    """Delete variables that are no settings: PAD_TEACHER_PORT=tcp://… would be taken for --port."""
    for variable in list(os.environ):
        name = variable.upper()
        if name.startswith(ENV_PREFIX) and is_service_link(name, os.environ[variable]):
            del os.environ[variable]


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes, or Docker's links, put the variable there for a service whose name begins like ours."""
    if SERVICE_LINK.fullmatch(name.removeprefix(ENV_PREFIX)):
        return True
    return name.endswith("PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
