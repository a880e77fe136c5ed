"""Requests and replies of ``/v1/likelihood``, ``/v1/selection`` and ``/v1/score``."""

from string import ascii_uppercase
from typing import Annotated, Literal

from pydantic import Field

from pad_wire.sets import ResponseSet, TeacherId
from pad_wire.text import WireModel

LETTERS = ascii_uppercase  # of the options of a multiple-choice question; a teacher may have tokens for fewer
MAX_SETS = 1024  # per request; the teacher limits its tokens as well

Form = Literal["listwise", "pairwise"]
Orders = Literal["single", "cyclic", "both", "all"]


class ScoringRequest(WireModel):
    """The fields of every scoring request."""

    sets: Annotated[list[ResponseSet], Field(fail_fast=True, min_length=1, max_length=MAX_SETS)]
    # A text too long for the teacher's context is an error. With truncate, responses are cut at their end instead,
    # and the reply marks them.
    truncate: bool = False


class LikelihoodRequest(ScoringRequest):
    """Ask for the log-likelihood of each response; ``unconditional`` for the one after an empty request too."""

    per_token: bool = False
    unconditional: bool = False


class SelectionRequest(ScoringRequest):
    """Ask for the probability that the teacher picks each response."""

    form: Form = "listwise"
    orders: Orders = "cyclic"


class ScoreRequest(SelectionRequest):
    """Ask for both in one call and, given ``alpha``, for the calibrated reward."""

    per_token: bool = False
    unconditional: bool = False
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None


class Usage(WireModel):
    """Teacher tokens of a request. Each text counts once, however often the engine reads it."""

    prompt_tokens: int
    response_tokens: int
    question_tokens: int  # of the multiple-choice questions, in every order that was asked
    total_tokens: int


class Likelihood(WireModel):
    """The likelihood of one response, in nats; ``tokens`` counts the end-of-turn token of a finished one."""

    log_likelihood: float
    tokens: int
    mean_log_likelihood: float
    unconditional_log_likelihood: float | None = None  # of the same tokens after an empty request, if it was asked
    token_log_likelihoods: list[float] | None = None
    truncated: bool | None = None  # present, and true, only if the response was cut to fit


class Selection(WireModel):
    """The probability that the teacher picks one response."""

    selection_probability: float
    truncated: bool | None = None


class Score(Likelihood):
    """Likelihood, selection and, given ``alpha``, the calibrated reward.

    It is (1 - alpha) * mean log-likelihood + alpha * log selection probability.
    """

    selection_probability: float
    reward: float | None = None


class LikelihoodSet(WireModel):
    """One set's likelihoods, in the order of its responses."""

    id: str  # the request's, or else the set's index
    responses: list[Likelihood]


class SelectionSet(WireModel):
    """One set's selection probabilities, and what shows whether they mean anything.

    ``label_mass`` is what the option letters' probabilities summed to before they were renormalised.
    ``order_disagreement`` is the largest total variation between two orders of the same responses, 0 to 1; it is
    absent if no responses were shown in two orders.
    """

    id: str
    responses: list[Selection]
    label_mass: float
    orders_asked: int | None = None
    order_disagreement: float | None = None


class ScoreSet(WireModel):
    """One set's scores; the last three fields as in ``SelectionSet``."""

    id: str
    responses: list[Score]
    label_mass: float
    orders_asked: int | None = None
    order_disagreement: float | None = None


class LikelihoodReply(WireModel):
    """Reply of ``/v1/likelihood``."""

    teacher: TeacherId
    sets: list[LikelihoodSet]
    usage: Usage


class SelectionReply(WireModel):
    """Reply of ``/v1/selection``."""

    teacher: TeacherId
    sets: list[SelectionSet]
    usage: Usage


class ScoreReply(WireModel):
    """Reply of ``/v1/score``."""

    teacher: TeacherId
    sets: list[ScoreSet]
    usage: Usage
