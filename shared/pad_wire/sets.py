"""Response sets, as requests carry them, as the student sampled them, and as a teacher scored them."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pad_wire.text import Text, WireModel

MAX_ID_CHARS = 256
MAX_RESPONSES = 256  # a set is compared as a whole, so it stays small


Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


class Message(WireModel):
    """One turn of a conversation. A chat template may know fewer roles than these."""

    role: Role
    content: Annotated[Text, Field(min_length=1)]


def _prompt_form(value: Any) -> str:
    return "<messages>" if isinstance(value, list) else "<text>"


# With tags, an error about one form does not list the errors of the other form.
Prompt = Annotated[
    Annotated[Text, Field(min_length=1), Tag("<text>")]
    | Annotated[list[Message], Field(fail_fast=True, min_length=1), Tag("<messages>")],
    Discriminator(_prompt_form),
]


class Response(WireModel):
    """One response. ``finished`` is false if a length limit cut it; then no end-of-turn token is scored."""

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
    """A response set whose id tells a resumed command that it is done: one line of ``sets.jsonl``."""

    id: SetId
    prompt: Prompt
    responses: Responses


class TeacherId(WireModel):
    """A teacher's name, and a fingerprint of its weights, tokenizer, template and dtype."""

    model: str
    fingerprint: str


class ScoredResponse(Response):
    """A response with the teacher's numbers: log-likelihoods in nats, probabilities in [0, 1]."""

    log_likelihood: Annotated[float, Field(le=0)]
    tokens: Annotated[int, Field(ge=1)]
    mean_log_likelihood: Annotated[float, Field(le=0)]
    unconditional_log_likelihood: Annotated[float, Field(le=0)] | None = None
    selection_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    truncated: bool | None = None


class ScoredSet(WireModel):
    """A response set after scoring: one line of ``scored.jsonl``."""

    id: SetId
    prompt: Prompt
    responses: Annotated[list[ScoredResponse], Field(min_length=1)]
    label_mass: Annotated[float, Field(ge=0)] | None = None
    order_disagreement: Annotated[float, Field(ge=0, le=1)] | None = None
    teacher: TeacherId
