"""The part of OpenAI's completions form that scoring harnesses use: echo with logprobs, and at most one new token."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pad_wire.text import Text, WireModel

MAX_PROMPTS = 1024
MAX_LOGPROBS = 5

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True, min_length=1)]
Prompts = (
    Annotated[Text, Field(min_length=1)]
    | TokenIds
    | Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
    | Annotated[
        list[Annotated[Text, Field(min_length=1)]], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)
    ]
)


class CompletionRequest(WireModel):
    """A scoring request in OpenAI's form. Fields that steer free generation are taken only at their neutral value."""

    model: Text | None = None
    prompt: Prompts
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=1)] = 1
    temperature: Annotated[float, Field(ge=0, le=0)] = 0.0  # the new token is the most likely one
    add_special_tokens: bool = True  # as vLLM has it: whether a text is tokenised with its BOS
    seed: int | None = None
    user: Text | None = None
    n: Literal[1] = 1
    best_of: Literal[1] = 1
    stream: Literal[False] = False
    top_p: Annotated[float, Field(ge=1, le=1)] = 1.0
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    stop: Any = None  # one token at most is made, so there is nothing to stop
    suffix: None = None
    logit_bias: None = None


class CompletionLogprobs(WireModel):
    """Per token of ``text``; the first token of an echoed prompt has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(WireModel):
    """One prompt's completion."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionUsage(WireModel):
    """OpenAI's token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionReply(WireModel):
    """Reply of ``/v1/completions``."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: CompletionUsage
