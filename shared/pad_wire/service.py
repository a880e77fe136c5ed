"""Replies that describe the service: models, limits, usage and health."""

from typing import Literal, get_args

from pydantic import Field

from pad_wire.question import QuestionForm
from pad_wire.sets import TeacherId
from pad_wire.text import WireModel

Capability = Literal["likelihood", "selection", "token_logprobs", "completions"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
Estimator = Literal["label_probabilities", "votes"]


class Limits(WireModel):
    """Limits of one request. A larger request is refused with a 4xx."""

    max_body_bytes: int = Field(description="bytes of a request's body")
    max_sets: int = Field(description="sets of a request")
    max_responses: int = Field(description="responses of a set")
    max_options: int = Field(description="responses that one multiple-choice question can show")
    max_orders: int = Field(description="questions about one set")
    max_context_tokens: int | None = Field(
        default=None,
        description="tokens of a prompt with a response, or of one question; absent if only an upstream knows",
    )
    max_queued_tokens: int = Field(description="teacher tokens of all clients that may wait at the same time")


class ModelCard(WireModel):
    """The one model this service holds, in OpenAI's form plus fingerprint and limits."""

    id: str = Field(description="the teacher's name")
    object: Literal["model"] = Field(default="model", description="as OpenAI has it")
    created: int = Field(description="when the service started, in seconds since 1970")
    owned_by: str = Field(default="pad-service", description="as OpenAI has it")
    fingerprint: str = Field(description="hash of weights, tokenizer, template, dtype and wording of the question")
    engine: str = Field(description="the runtime that computes")
    capabilities: list[Capability] | None = Field(
        default=None,
        description="what it can tell; one behind an API only chooses: selection alone. Absent from an older service,"
        " which can tell all",
    )
    estimator: Estimator | None = Field(
        default=None, description="how the choice of a teacher behind an API becomes a probability; else absent"
    )
    dtype: str | None = Field(default=None, description="dtype of the weights; absent if nobody can know")
    end_of_turn: str | None = Field(
        default=None,
        description="the token that is scored at the end of a finished response; absent if none is scored",
    )
    question: QuestionForm | None = Field(
        default=None, description="how choice is asked; absent from a service older than that"
    )
    tokenizer: str | None = Field(
        default=None, description="digest of vocabulary, merges and special tokens; absent from an older service"
    )
    reference: TeacherId | None = Field(
        default=None, description="the model that this one was aligned from, if the service holds it too"
    )
    limits: Limits = Field(description="limits of one request")


class ModelList(WireModel):
    """Reply of ``/v1/models``."""

    object: Literal["list"] = Field(default="list", description="as OpenAI has it")
    data: list[ModelCard] = Field(description="the one model that this service holds")


class JobUsage(WireModel):
    """Teacher tokens scored for one job since the service started."""

    job: str = Field(description="the job's name, from X-Job-Id")
    requests: int = Field(description="requests that were answered")
    prompt_tokens: int = Field(description="tokens of prompts")
    response_tokens: int = Field(description="tokens of responses")
    question_tokens: int = Field(description="tokens of multiple-choice questions")
    total_tokens: int = Field(description="the sum of the three")
    sets_of_one_text: int = Field(default=0, description="sets whose choice was not asked")


class KeyUsage(WireModel):
    """The asking key: its share, its limits in teacher tokens, and the tokens left of them."""

    name: str = Field(description="the key's name; empty if the service has no keys")
    weight: float = Field(description="the key's share relative to other keys")
    tokens_per_minute: int | None = Field(default=None, description="the key's budget, if it has one")
    left_of_minute: int | None = Field(default=None, description="tokens that the budget allows now")
    tokens_per_day: int | None = Field(default=None, description="the key's quota of a UTC day, if it has one")
    left_of_day: int | None = Field(default=None, description="tokens that the quota allows until midnight UTC")
    tokens_today: int = Field(description="tokens used since midnight UTC, with those that wait")


class UsageReply(WireModel):
    """Reply of ``/v1/usage``: the asking key, and its jobs."""

    key: KeyUsage = Field(description="the asking key")
    jobs: list[JobUsage] = Field(description="its jobs since the service started")


class Health(WireModel):
    """Reply of the health routes; ``reason`` says why a service is not ready."""

    status: Literal["live", "ready", "starting", "draining", "failed"] = Field(description="the service's state")
    reason: str | None = Field(default=None, description="why it is not ready")
