"""The part of OpenAI's completions form that scoring harnesses use: echo with logprobs, and at most one new token."""

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationInfo

from pad_wire.text import Text, WireModel

MAX_PROMPTS = 1024
MAX_LOGPROBS = 5
SCORES_ONLY = "this service scores; it does not generate"

# Descriptions of fields that steer generation.
OR_ANY = "or any value with max_tokens 0"
NOT_USED = "taken, and not used"

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True, min_length=1)]
NonEmptyText = Annotated[Text, Field(min_length=1)]


def _prompt_form(value: Any) -> str:
    if not isinstance(value, list):
        return "<text>"
    first: Any = next(iter(cast("list[Any]", value)), None)
    if isinstance(first, list):
        return "<several lists of ids>"
    return "<ids>" if isinstance(first, int) else "<texts>"


# With tags, an error about one form does not list the errors of the other forms.
Prompts = Annotated[
    Annotated[NonEmptyText, Tag("<text>")]
    | Annotated[TokenIds, Tag("<ids>")]
    | Annotated[
        list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS), Tag("<several lists of ids>")
    ]
    | Annotated[list[NonEmptyText], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS), Tag("<texts>")],
    Discriminator(_prompt_form),
]

# Forms of the schema; the checks below say the same in words.
ZeroOrOne = Annotated[int, Field(ge=0, le=1)]
One = Annotated[int, Field(ge=1, le=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]


def _null_is(default: object, form: Any) -> BeforeValidator:
    """OpenAI's clients may send null for the default."""
    return BeforeValidator(lambda value: default if value is None else value, json_schema_input_type=form | None)


def _at_most_one_token(count: int) -> int:
    if count > 1:
        raise ValueError(f"{SCORES_ONLY}; at most 1 token")
    return count


def _one(count: int) -> int:
    if count != 1:
        raise ValueError(f"{SCORES_ONLY}; only 1")
    return count


def _not_streamed(stream: bool) -> bool:
    if stream:
        raise ValueError(f"{SCORES_ONLY}; a reply comes as a whole")
    return stream


def _neutral_with_a_new_token(value: Any, info: ValidationInfo) -> Any:
    if value and info.data.get("max_tokens", 1):
        raise ValueError(f"{SCORES_ONLY}; a new token is the likeliest one, so give 0, or max_tokens 0")
    return value


class CompletionRequest(WireModel):
    """A scoring request in OpenAI's form.

    Fields that steer generation are taken if they cannot matter: any value if ``max_tokens`` is 0, or else the one
    that leaves the likeliest token. Null is a field's default.
    """

    model: Text | None = Field(default=None, description="the teacher's name; this service holds one model")
    prompt: Prompts = Field(description="a text, token ids, or a list of either; no chat template is applied")
    echo: Annotated[bool, _null_is(False, bool)] = Field(
        default=False, description="reply with the prompt's own tokens as well: that scores it"
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = Field(
        default=None, description="reply with log-probabilities, and with those of so many likeliest tokens"
    )
    # Before all fields that depend on it.
    max_tokens: Annotated[int, Field(ge=0), AfterValidator(_at_most_one_token), _null_is(1, ZeroOrOne)] = Field(
        default=1, description="new tokens, 0 or 1: this service scores, it does not generate"
    )
    temperature: Annotated[Temperature, AfterValidator(_neutral_with_a_new_token), _null_is(0.0, Temperature)] = (
        Field(default=0.0, description=f"0, {OR_ANY}")
    )
    add_special_tokens: bool = Field(default=True, description="as vLLM has it: whether a text gets its BOS token")
    seed: int | None = Field(default=None, description=NOT_USED)
    user: Text | None = Field(default=None, description=NOT_USED)
    n: Annotated[int, AfterValidator(_one), _null_is(1, One)] = Field(default=1, description="1")
    best_of: Annotated[int, AfterValidator(_one), _null_is(1, One)] = Field(default=1, description="1")
    stream: Annotated[bool, AfterValidator(_not_streamed), _null_is(False, Literal[False])] = Field(
        default=False, description="false: a reply comes as a whole"
    )
    stream_options: None = Field(default=None, description="null: a reply comes as a whole")
    top_p: Annotated[Share, _null_is(1.0, Share)] = Field(
        default=1.0, description="any: the likeliest token is always among them"
    )
    frequency_penalty: Annotated[Penalty, AfterValidator(_neutral_with_a_new_token), _null_is(0.0, Penalty)] = Field(
        default=0.0, description=f"0, {OR_ANY}"
    )
    presence_penalty: Annotated[Penalty, AfterValidator(_neutral_with_a_new_token), _null_is(0.0, Penalty)] = Field(
        default=0.0, description=f"0, {OR_ANY}"
    )
    stop: Text | list[Text] | None = Field(
        default=None, description="any: one token at most is made, so there is nothing to stop"
    )
    suffix: None = Field(default=None, description="null")
    logit_bias: Annotated[dict[str, Bias], AfterValidator(_neutral_with_a_new_token)] | None = Field(
        default=None, description=f"none, {OR_ANY}"
    )


class CompletionLogprobs(WireModel):
    """Per token of ``text``; the first token of an echoed prompt has no log-probability."""

    tokens: list[str] = Field(description="the tokens as text")
    token_logprobs: list[float | None] = Field(description="the log-probability of each, in nats")
    top_logprobs: list[dict[str, float] | None] | None = Field(
        description="the likeliest tokens at each place; null if logprobs was 0"
    )
    text_offset: list[int] = Field(description="where each token begins in text, in characters")


class CompletionChoice(WireModel):
    """One prompt's completion."""

    index: int = Field(description="the prompt's place in the request")
    text: str = Field(description="the echoed prompt if it was asked, and the new token if there is one")
    logprobs: CompletionLogprobs | None = Field(description="null if none were asked")
    finish_reason: Literal["stop", "length"] = Field(description="stop if the new token ends the text")


class CompletionUsage(WireModel):
    """OpenAI's token counts."""

    prompt_tokens: int = Field(description="tokens of the prompts")
    completion_tokens: int = Field(description="new tokens")
    total_tokens: int = Field(description="the sum of both")


class CompletionReply(WireModel):
    """Reply of ``/v1/completions``."""

    id: str = Field(description="a new name for the reply")
    object: Literal["text_completion"] = Field(default="text_completion", description="as OpenAI has it")
    created: int = Field(description="seconds since 1970")
    model: str = Field(description="the teacher's name")
    system_fingerprint: str = Field(description="the teacher's fingerprint")
    choices: list[CompletionChoice] = Field(description="one for each prompt, in order")
    usage: CompletionUsage = Field(description="tokens of this request")
