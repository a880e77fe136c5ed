"""A response set: one prompt and the responses to be compared; and the same once a teacher has scored it."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pad_wire.text import Text, WireModel

MAX_ID_CHARS = 256
MAX_RESPONSES = 256  # a set is compared as a whole; past this it is a corpus, not a set


class Message(WireModel):
    """One turn of a conversation; which roles exist is the chat template's to say."""

    role: Annotated[Text, Field(min_length=1, max_length=32)]
    content: Annotated[Text, Field(min_length=1)]


def _prompt_form(value: Any) -> str:
    return "<messages>" if isinstance(value, list) else "<text>"


# The tags keep an error about one form from listing the other form's errors too.
Prompt = Annotated[
    Annotated[Text, Field(min_length=1), Tag("<text>")]
    | Annotated[list[Message], Field(fail_fast=True, min_length=1), Tag("<messages>")],
    Discriminator(_prompt_form),
]


class Response(WireModel):
    """One response. ``finished`` is false where a length limit cut it, so no end-of-turn token is scored."""

    text: Text
    finished: bool = True


def _text_is_a_finished_response(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


Responses = Annotated[
    list[Annotated[Response, BeforeValidator(_text_is_a_finished_response, json_schema_input_type=str | Response)]],
    Field(fail_fast=True, min_length=1, max_length=MAX_RESPONSES),
]
SetId = Annotated[Text, Field(min_length=1, max_length=MAX_ID_CHARS)]


class ResponseSet(WireModel):
    """A prompt and its responses, as a request carries them."""

    id: SetId | None = None
    prompt: Prompt
    responses: Responses


class SampledSet(WireModel):
    """A response set with the id that a resumed stage knows it by: one line of ``sets.jsonl``."""

    id: SetId
    prompt: Prompt
    responses: Responses


class TeacherId(WireModel):
    """Which teacher scored: its name, and a fingerprint of weights, tokenizer, template and dtype."""

    model: str
    fingerprint: str


class ScoredResponse(Response):
    """A response with the teacher's numbers: log-likelihoods in nats, probabilities in [0, 1]."""

    log_likelihood: Annotated[float, Field(le=0)]
    tokens: Annotated[int, Field(ge=1)]
    mean_log_likelihood: Annotated[float, Field(le=0)]
    selection_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    truncated: bool | None = None


class ScoredSet(WireModel):
    """A response set after scoring: one line of ``scored.jsonl``."""

    id: SetId
    prompt: Prompt
    responses: Annotated[list[ScoredResponse], Field(min_length=1)]
    label_mass: Annotated[float, Field(ge=0)] | None = None
    teacher: TeacherId
