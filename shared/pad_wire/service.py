"""Replies that describe the service: models, limits, usage and health."""

from typing import Literal

from pad_wire.question import QuestionForm
from pad_wire.text import WireModel


class Limits(WireModel):
    """Limits of one request. A larger request is refused with a 4xx."""

    max_body_bytes: int
    max_sets: int
    max_responses: int
    max_options: int  # responses of one multiple-choice question
    max_orders: int
    max_context_tokens: int  # prompt and response, or one multiple-choice question
    max_queued_tokens: int  # of all clients together


class ModelCard(WireModel):
    """The one model this service holds, in OpenAI's form plus fingerprint and limits."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "pad-service"
    fingerprint: str
    engine: str
    dtype: str
    end_of_turn: str
    question: QuestionForm | None = None  # how choice is asked; absent from a service older than that
    limits: Limits


class ModelList(WireModel):
    """Reply of ``/v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class JobUsage(WireModel):
    """Teacher tokens scored for one job since the service started."""

    job: str
    requests: int
    prompt_tokens: int
    response_tokens: int
    question_tokens: int
    total_tokens: int


class KeyUsage(WireModel):
    """The asking key: its share, its limits in teacher tokens, and the tokens left of them."""

    name: str  # empty if the service has no keys
    weight: float
    tokens_per_minute: int | None = None
    left_of_minute: int | None = None
    tokens_per_day: int | None = None
    left_of_day: int | None = None
    tokens_today: int  # since midnight UTC, including tokens that wait


class UsageReply(WireModel):
    """Reply of ``/v1/usage``: the asking key, and its jobs."""

    key: KeyUsage
    jobs: list[JobUsage]


class Health(WireModel):
    """Reply of the health routes; ``reason`` says why a service is not ready."""

    status: Literal["live", "ready", "starting", "draining", "failed"]
    reason: str | None = None
