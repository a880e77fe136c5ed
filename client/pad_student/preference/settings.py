"""The settings that ``PADConfig`` and the commands share: name, type, default, bounds and help, each written once."""

import datetime
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, cast, get_type_hints

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo

from pad_settings.values import from_text
from pad_wire import Form, Orders
from pad_wire.scoring import TOLERANCE

Loss = Literal["ppd", "vpd", "forward_kl", "reverse_kl", "symmetric_kl", "released_kl", "simpo"]
Method = Literal["pad", "dckd", "adpa"]
Normalization = Literal["mean", "sum", "bytes", "relative"]
Decompose = Literal["on-policy", "fixed"]
OnRefused = Literal["skip", "stop"]
OneText = Literal["skip", "keep"]

Settings = TypeVar("Settings", bound=type)

MOST_SKIPPED = 0.9  # a prompt that taught nothing comes up all the same once in ten times: the student changes


def with_help(settings: Settings) -> Settings:
    """Copy each field's description to the place that transformers' argument parser reads help texts from."""
    hints = get_type_hints(settings, include_extras=True)
    for each in fields(settings):
        (info,) = (note for note in hints[each.name].__metadata__ if isinstance(note, FieldInfo))
        each.metadata = {"help": info.description}  # type: ignore[assignment]
    return settings


def as_arguments(given: Any) -> Any:
    """A template's arguments from a mapping, or from its text in YAML or JSON."""
    arguments: Any = from_text(given)
    if arguments is None:
        return None
    if not isinstance(arguments, dict):
        raise ValueError('expected arguments as in {"enable_thinking": false}')
    # A flag NAME=VALUE gives a text, and "false" is meant to be false.
    return {name: from_text(value) for name, value in cast(dict[str, Any], arguments).items()}


def _a_date(given: Any) -> Any:
    """YAML reads 2026-01-31 as a date; its text is kept, which checkpoints can hold."""
    if isinstance(given, datetime.date):
        return given.isoformat()
    try:
        return datetime.date.fromisoformat(given).isoformat() if isinstance(given, str) else given
    except ValueError:
        raise ValueError("expected a date as in 2026-01-31") from None


@with_help
@dataclass
class TemplateSettings:
    """What the student's chat template reads besides the conversation."""

    template_args: Annotated[
        dict[str, Any] | str | None,  # the text is for HfArgumentParser, which reads no dict
        BeforeValidator(as_arguments),
        Field(description='Arguments of the chat template, as in {"enable_thinking": false}.'),
    ] = None
    date: Annotated[
        str | None,
        BeforeValidator(_a_date),
        Field(description="Day that a chat template which writes the date is told; by default 2024-07-26."),
    ] = None


@with_help
@dataclass
class RefusalSettings:
    """What becomes of prompts and sets that a chat template or a context's length refuses."""

    on_refused: Annotated[
        OnRefused,
        Field(
            description="A prompt or set that a model's chat template or context refuses is left out and counted"
            " (skip), or ends the run (stop)."
        ),
    ] = "skip"
    most_refused: Annotated[
        float,
        Field(ge=0, le=1, description="Share of prompts or sets that may be left out before the run stops."),
    ] = 0.1


@with_help
@dataclass
class QuestionSettings:
    """How the teacher is asked to choose among responses."""

    form: Annotated[
        Form, Field(description="Form of the multiple-choice question: all responses in one, or one for each pair.")
    ] = "listwise"
    orders: Annotated[
        Orders,
        Field(
            description="Option orders to average, which cancels the teacher's preference for a letter; adaptive asks"
            " in two opposite ones, and in the others only if these disagree."
        ),
    ] = "cyclic"
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Total variation between two opposite orders past which adaptive asks in the others.",
        ),
    ] = TOLERANCE
    distinct: Annotated[
        bool,
        Field(
            description="Ask over distinct texts: copies of one text are one option, and each has the whole"
            " probability of its text."
        ),
    ] = True


@with_help
@dataclass
class PreferenceSettings:
    """How scored responses become a loss."""

    parts: Annotated[
        int,
        Field(
            ge=1,
            description="Preference decomposing: a prompt's n responses serve this many steps, n / parts in each.",
        ),
    ] = 1
    loss: Annotated[
        Loss,
        Field(description="Loss: ppd and vpd are the paper's; released_kl is the one in its published code."),
    ] = "ppd"
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Weight of the log selection probability in the teacher's reward; the rest is likelihood.",
        ),
    ] = 0.8
    beta_teacher: Annotated[float, Field(gt=0, description="Sharpness of the teacher's preferences.")] = 10.0
    beta_student: Annotated[
        float,
        Field(gt=0, description="Sharpness of the student's preferences; a smaller one asks for a larger spread."),
    ] = 2.0
    normalization: Annotated[
        Normalization,
        Field(
            description="Divisor of a log-likelihood: its tokens (mean), nothing (sum), or its text's bytes. With"
            " relative, the teacher's mean is reduced by the mean after an empty request."
        ),
    ] = "mean"
    unconditional_weight: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of the mean after an empty request that normalization relative takes off; at 1 short"
            " responses are preferred, at less longer ones.",
        ),
    ] = 1.0
    anchor: Annotated[
        float,
        Field(ge=0, description="Weight of the negative log-likelihood of the response that the teacher likes best."),
    ] = 0.0
    one_text: Annotated[
        OneText,
        Field(
            description="Sets whose responses are all the same text hold no preference: they are neither scored nor"
            " trained on (skip), or treated as others (keep)."
        ),
    ] = "skip"
    max_forward_tokens: Annotated[
        int | None,
        Field(
            ge=1,
            description="Tokens in one forward pass; a larger micro-batch takes several, for the same gradient.",
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        Field(gt=0, description="Highest learning rate; by default 8e-7, and 1e-4 for an adapter (LoRA)."),
    ] = None


@with_help
@dataclass
class MethodSettings:
    """Which method trains the student, and what the token-level ones (arXiv 2502.17927) weigh."""

    method: Annotated[
        Method,
        Field(
            description="Method: pad compares whole responses; dckd and adpa learn from the teacher's distribution at"
            " each token, and need its tokenizer."
        ),
    ] = "pad"
    top_k: Annotated[
        int, Field(ge=1, le=256, description="Tokens that the teacher names at each token; the others are one bin.")
    ] = 50
    nll_weight: Annotated[
        float,
        Field(
            ge=0,
            description="Weight of the chosen response's negative log-likelihood; without it adpa loses entropy.",
        ),
    ] = 1.0
    chosen_weight: Annotated[
        float, Field(ge=0, description="dckd: weight of the divergence from the teacher on the chosen response.")
    ] = 0.1
    rejected_weight: Annotated[
        float, Field(ge=0, description="dckd: weight of the divergence from the teacher on the rejected response.")
    ] = 0.1
    gamma: Annotated[
        float, Field(ge=0, description="adpa: weight of the teacher's advantage over its reference.")
    ] = 1.6


@with_help
@dataclass
class OnPolicySettings:
    """How the student's responses are sampled during training."""

    n: Annotated[int, Field(ge=1, description="Responses to each prompt; pad compares two or more.")] = 4
    temperature: Annotated[
        float, Field(ge=0, description="Sampling temperature; 0 takes the likeliest tokens, for adpa with n 1.")
    ] = 0.8
    resample_temperature: Annotated[
        float | None,
        Field(
            gt=0,
            description="Temperature at which a set of one text is sampled once more; by default it is not.",
        ),
    ] = None
    second_set_above: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Entropy of the teacher's preferences over a set, 0 to 1, above which its prompt gets as many"
            " responses again, as a set of their own; by default none does. A micro-batch then has up to twice as"
            " many sets: max_forward_tokens bounds its memory.",
        ),
    ] = None
    skip_settled: Annotated[
        float,
        Field(
            ge=0,
            le=MOST_SKIPPED,
            description="Greatest probability at which a prompt is left out because its loss was low when it came up"
            " last; 0 leaves out none.",
        ),
    ] = 0.0
    max_response_tokens: Annotated[int, Field(ge=1, description="Longest response; longer ones are cut.")] = 1024
    sampling_batch_size: Annotated[
        int, Field(ge=1, description="Prompts sampled in one batch; bounds the memory of sampling.")
    ] = 16
    sampler_url: Annotated[
        str | None,
        Field(description="A vLLM server that samples with each round's weights; by default the trainer samples."),
    ] = None
    sampler_tolerance: Annotated[
        float,
        Field(
            gt=0,
            description="Nats a token by which the server's log-probabilities may differ before the run stops.",
        ),
    ] = 0.1
    staleness: Annotated[
        int,
        Field(
            ge=0,
            description="Steps by which responses may lag behind the student: 0 is fully on-policy, 1 samples ahead.",
        ),
    ] = 0
    keep_rounds: Annotated[
        Literal["needed", "all"],
        Field(description="Rounds of samples and scores to keep: those that a kept checkpoint needs, or all."),
    ] = "needed"
    decompose: Annotated[
        Decompose,
        Field(description="Sample each part from the student as it then is (on-policy), or all together (fixed)."),
    ] = "on-policy"


class _Bounds(
    BaseModel,
    OnPolicySettings,
    MethodSettings,
    PreferenceSettings,
    RefusalSettings,
    QuestionSettings,
    TemplateSettings,
):
    """All of the above as a model that checks them."""


def why_out_of_bounds(settings: object) -> str | None:
    """The first setting of ``settings`` with a wrong type or value, in one line; None if all are fine."""
    try:
        _Bounds.model_validate(settings, from_attributes=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}"
    return None
