"""Response sets, as requests carry them, as the student sampled them, and as a teacher scored them."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from pad_wire.text import Text, WireModel

MAX_ID_CHARS = 256
MAX_RESPONSES = 256  # a set is compared as a whole, so it stays small


Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


class Message(WireModel):
    """One turn of a conversation. A chat template may know fewer roles than these."""

    role: Role = Field(description="who says it; a chat template may know fewer roles")
    content: Annotated[Text, Field(min_length=1)] = Field(description="the words, as plain text")


def _prompt_form(value: Any) -> str:
    return "<messages>" if isinstance(value, list) else "<text>"


# With tags, an error about one form does not list the errors of the other form.
Prompt = Annotated[
    Annotated[Text, Field(min_length=1), Tag("<text>")]
    | Annotated[list[Message], Field(fail_fast=True, min_length=1), Tag("<messages>")],
    Discriminator(_prompt_form),
]


class SentResponse(WireModel):
    """One response. ``finished`` is false if a length limit cut it; then no end-of-turn token is scored."""

    text: Text = Field(description="the response, as plain text")
    finished: bool = Field(
        default=True, description="false if a length limit cut it; then no end-of-turn token is scored"
    )


class Response(SentResponse):
    """A response as the student's side keeps it; ``ids`` are not sent to a teacher."""

    ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        default=None,
        description="token ids that the student drew, with that of its end, if they are not those of the text",
    )


def _text_is_a_finished_response(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


AsSent = BeforeValidator(_text_is_a_finished_response, json_schema_input_type=str | SentResponse)
AsKept = BeforeValidator(_text_is_a_finished_response, json_schema_input_type=str | Response)
OfASet = Field(fail_fast=True, min_length=1, max_length=MAX_RESPONSES)
SetId = Annotated[Text, Field(min_length=1, max_length=MAX_ID_CHARS)]


class ResponseSet(WireModel):
    """A prompt and its responses, as a request carries them."""

    id: SetId | None = Field(default=None, description="your name for the set; by default its index")
    prompt: Prompt = Field(description="a text, which is one user message, or the turns of a conversation")
    responses: Annotated[list[Annotated[SentResponse, AsSent]], OfASet] = Field(
        description="the responses to score; a plain text is a finished response"
    )


class SampledSet(WireModel):
    """A response set whose id tells a resumed command that it is done: one line of ``sets.jsonl``.

    ``answer`` is the data's own to the prompt, if the run learns from it too; it is not sent to a teacher.
    """

    id: SetId
    prompt: Prompt
    responses: Annotated[list[Annotated[Response, AsKept]], OfASet]
    answer: Text | None = None


class TeacherId(WireModel):
    """A teacher's name, and a fingerprint of its weights, tokenizer, template and dtype."""

    model: str = Field(description="the teacher's name")
    fingerprint: str = Field(description="hash of weights, tokenizer, template, dtype and wording of the question")


Interval = Annotated[list[float], Field(min_length=2, max_length=2)]  # its two ends


class ScoredResponse(Response):
    """A response with the teacher's numbers: log-likelihoods in nats, probabilities in [0, 1].

    A teacher that only chooses tells no likelihood; if it votes, ``log_selection_probability`` is the posterior mean
    of the logarithm.
    """

    log_likelihood: Annotated[float, Field(le=0)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    mean_log_likelihood: Annotated[float, Field(le=0)] | None = None
    unconditional_log_likelihood: Annotated[float, Field(le=0)] | None = None
    selection_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    log_selection_probability: Annotated[float, Field(le=0)] | None = None
    selection_interval: Interval | None = None
    reward: float | None = None
    truncated: bool | None = None

    @model_validator(mode="after")
    def _has_numbers(self) -> Self:
        """A likelihood has all of its parts; it is missing only next to a choice."""
        likelihood = {name: getattr(self, name) for name in ("log_likelihood", "tokens", "mean_log_likelihood")}
        missing = [name for name, value in likelihood.items() if value is None]
        if missing and (len(missing) < len(likelihood) or self.selection_probability is None):
            raise ValueError(f"{missing[0]} is missing")
        return self


class ScoredSet(WireModel):
    """A response set after scoring: one line of ``scored.jsonl``.

    ``token_tables`` are the teacher's distributions at each token, and perhaps those of its ``reference``: base64 of
    the tensors of ``/v1/token_logprobs``.
    """

    id: SetId
    prompt: Prompt
    responses: Annotated[list[ScoredResponse], Field(min_length=1)]
    label_mass: Annotated[float, Field(ge=0)] | None = None
    orders_asked: Annotated[int, Field(ge=0)] | None = None
    order_disagreement: Annotated[float, Field(ge=0, le=1)] | None = None
    votes: Annotated[int, Field(ge=0)] | None = None
    invalid_votes: Annotated[int, Field(ge=0)] | None = None
    unreturned_mass: Annotated[float, Field(ge=0, le=1)] | None = None
    teacher: TeacherId
    answer: Text | None = None
    reference: TeacherId | None = None
    token_tables: str | None = None
