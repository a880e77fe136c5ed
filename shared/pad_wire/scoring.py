"""Requests and replies of ``/v1/likelihood``, ``/v1/selection`` and ``/v1/score``."""

from string import ascii_uppercase
from typing import Annotated, Literal

from pydantic import Field

from pad_wire.sets import Interval, ResponseSet, TeacherId
from pad_wire.text import WireModel

LETTERS = ascii_uppercase  # of the options of a multiple-choice question; a teacher may have tokens for fewer
MAX_SETS = 1024  # per request; the teacher limits its tokens as well

Form = Literal["listwise", "pairwise"]
Orders = Literal["single", "cyclic", "both", "all", "adaptive"]
TOLERANCE = 0.1  # total variation between two opposite orders, up to which adaptive asks no others

# Descriptions of fields that several models have.
OF_ORDERS = "reply with the answer to each question as well, in the order in which it showed the responses"
OF_TEXTS = "reply with the text of each scored token as well"
OF_TOKENS = "reply with the log-likelihood of each token as well"
UNCONDITIONAL = "reply with the log-likelihood of each response after an empty request as well"
SELECTION = "probability that the teacher picks this response, averaged over the orders that were asked"
LOG_SELECTION = "of votes, the posterior mean of the probability's logarithm, which is not the mean's logarithm"
INTERVAL = "of a teacher behind an API: where the probability lies; certain of label probabilities, 95 % of votes"
VOTES = "votes that named a letter, in all orders together, if the teacher votes"
INVALID = "votes that named no letter, if the teacher votes"
UNRETURNED = "probability of the first tokens that the API did not return: letters might be among them"
LOG_LIKELIHOOD = "log-probability of the response after the prompt, in nats"
SCORED_TOKENS = "tokens scored, with the end-of-turn token of a finished response"
MEAN = "log_likelihood / tokens"
AFTER_NOTHING = "log-probability of the same tokens after an empty request, if it was asked"
LISTED = "log-probability of each token, if per_token was asked"
LISTED_TEXTS = "text of each token, the end of turn last, if token_texts was asked"
TRUNCATED = "true if the response was cut to fit the context; else absent"
ID = "the set's id in the request, or else its index"
IN_ORDER = "in the order of the request's responses"
LABEL_MASS = "probability on the option letters before they were renormalised; near 0 the choice means nothing"
PER_ORDER = "the answer to each question, if per_order was asked; empty for a set of one text"
ORDERS_ASKED = "number of questions that were asked about this set"
SCORED_BY = "the teacher that scored; numbers of two fingerprints do not compare"
DISAGREEMENT = "largest total variation between two orders of the same responses, 0 to 1; absent if there are no two"


class ScoringRequest(WireModel):
    """The fields of every scoring request."""

    sets: Annotated[list[ResponseSet], Field(fail_fast=True, min_length=1, max_length=MAX_SETS)] = Field(
        description="the response sets to score; each is compared in itself alone"
    )
    truncate: bool = Field(
        default=False,
        description="cut responses at their end if they do not fit the teacher's context, and mark them in the reply;"
        " by default a text that is too long is an error",
    )


class LikelihoodRequest(ScoringRequest):
    """Ask for the log-likelihood of each response; ``unconditional`` for the one after an empty request too."""

    per_token: bool = Field(default=False, description=OF_TOKENS)
    token_texts: bool = Field(default=False, description=OF_TEXTS)
    unconditional: bool = Field(default=False, description=UNCONDITIONAL)


class SelectionRequest(ScoringRequest):
    """Ask for the probability that the teacher picks each response."""

    form: Form = Field(
        default="listwise", description="one question about all responses, or one about every pair of them"
    )
    orders: Orders = Field(
        default="cyclic",
        description="the orders of the options that are asked and averaged: as given; all rotations; as given and"
        " reversed; every permutation; two opposite rotations, and the others where these disagree",
    )
    distinct: bool = Field(
        default=True,
        description="copies of one text are one option, and each has its text's whole probability; a set of one text"
        " is not asked",
    )
    tolerance: Annotated[float, Field(ge=0, le=1)] = Field(
        default=TOLERANCE,
        description="total variation between the two opposite rotations past which adaptive asks in the others",
    )
    per_order: bool = Field(default=False, description=OF_ORDERS)


class ScoreRequest(SelectionRequest):
    """Ask for both in one call and, given ``alpha``, for the calibrated reward."""

    per_token: bool = Field(default=False, description=OF_TOKENS)
    token_texts: bool = Field(default=False, description=OF_TEXTS)
    unconditional: bool = Field(default=False, description=UNCONDITIONAL)
    alpha: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="weight of the selection in the reward, 0 to 1; without it the reply has no reward",
    )


class Usage(WireModel):
    """Teacher tokens of a request. Each text counts once, however often the engine reads it."""

    prompt_tokens: int = Field(description="tokens of the prompts, each prompt once")
    response_tokens: int = Field(description="tokens of the responses; twice if they are read after nothing as well")
    question_tokens: int = Field(description="tokens of the multiple-choice questions, in every order that was asked")
    total_tokens: int = Field(description="the sum of the three")
    sets_of_one_text: int | None = Field(default=None, description="sets whose choice was not asked; absent if none")


class Likelihood(WireModel):
    """The likelihood of one response, in nats; ``tokens`` counts the end-of-turn token of a finished one."""

    log_likelihood: float = Field(description=LOG_LIKELIHOOD)
    tokens: int = Field(description=SCORED_TOKENS)
    mean_log_likelihood: float = Field(description=MEAN)
    unconditional_log_likelihood: float | None = Field(default=None, description=AFTER_NOTHING)
    token_log_likelihoods: list[float] | None = Field(default=None, description=LISTED)
    token_texts: list[str] | None = Field(default=None, description=LISTED_TEXTS)
    truncated: bool | None = Field(default=None, description=TRUNCATED)


class Selection(WireModel):
    """The probability that the teacher picks one response's text: copies of a text in a set all have it."""

    selection_probability: float = Field(description=SELECTION)
    log_selection_probability: float | None = Field(default=None, description=LOG_SELECTION)
    selection_interval: Interval | None = Field(default=None, description=INTERVAL)
    truncated: bool | None = Field(default=None, description=TRUNCATED)


class Score(Selection):
    """Likelihood, selection and, given ``alpha``, the calibrated reward.

    It is (1 - alpha) * mean log-likelihood + alpha * log selection probability. A teacher that only chooses tells no
    likelihood.
    """

    log_likelihood: float | None = Field(default=None, description=LOG_LIKELIHOOD)
    tokens: int | None = Field(default=None, description=SCORED_TOKENS)
    mean_log_likelihood: float | None = Field(default=None, description=MEAN)
    unconditional_log_likelihood: float | None = Field(default=None, description=AFTER_NOTHING)
    token_log_likelihoods: list[float] | None = Field(default=None, description=LISTED)
    token_texts: list[str] | None = Field(default=None, description=LISTED_TEXTS)
    reward: float | None = Field(
        default=None,
        description="(1 - alpha) * mean_log_likelihood + alpha * ln(selection_probability), if alpha was given; of"
        " votes, log_selection_probability takes the logarithm's place",
    )


class LikelihoodSet(WireModel):
    """One set's likelihoods, in the order of its responses."""

    id: str = Field(description=ID)
    responses: list[Likelihood] = Field(description=IN_ORDER)


class OrderAnswer(WireModel):
    """The answer to one multiple-choice question."""

    order: list[list[int]] = Field(
        description="of each letter, A first, the indices of the responses whose text it stood for: copies share one"
    )
    probabilities: list[float] = Field(description="of each letter, renormalised")
    label_mass: float = Field(description="probability on the letters before they were renormalised")


class SelectionSet(WireModel):
    """One set's selection probabilities, and what shows whether they mean anything.

    ``label_mass`` is what the option letters' probabilities summed to before they were renormalised.
    ``order_disagreement`` is the largest total variation between two orders of the same responses, 0 to 1; it is
    absent if no responses were shown in two orders. A set of one text is not asked: ``orders_asked`` is 0, each
    probability is 1, and there is no ``label_mass``.
    """

    id: str = Field(description=ID)
    responses: list[Selection] = Field(description=IN_ORDER)
    label_mass: float | None = Field(default=None, description=LABEL_MASS)
    orders_asked: int | None = Field(default=None, description=ORDERS_ASKED)
    order_disagreement: float | None = Field(default=None, description=DISAGREEMENT)
    per_order: list[OrderAnswer] | None = Field(default=None, description=PER_ORDER)
    votes: int | None = Field(default=None, description=VOTES)
    invalid_votes: int | None = Field(default=None, description=INVALID)
    unreturned_mass: float | None = Field(default=None, description=UNRETURNED)


class ScoreSet(WireModel):
    """One set's scores; the last fields as in ``SelectionSet``."""

    id: str = Field(description=ID)
    responses: list[Score] = Field(description=IN_ORDER)
    label_mass: float | None = Field(default=None, description=LABEL_MASS)
    orders_asked: int | None = Field(default=None, description=ORDERS_ASKED)
    order_disagreement: float | None = Field(default=None, description=DISAGREEMENT)
    per_order: list[OrderAnswer] | None = Field(default=None, description=PER_ORDER)
    votes: int | None = Field(default=None, description=VOTES)
    invalid_votes: int | None = Field(default=None, description=INVALID)
    unreturned_mass: float | None = Field(default=None, description=UNRETURNED)


class LikelihoodReply(WireModel):
    """Reply of ``/v1/likelihood``."""

    teacher: TeacherId = Field(description=SCORED_BY)
    sets: list[LikelihoodSet] = Field(description="in the order of the request's sets")
    usage: Usage = Field(description="teacher tokens of this request")


class SelectionReply(WireModel):
    """Reply of ``/v1/selection``."""

    teacher: TeacherId = Field(description=SCORED_BY)
    sets: list[SelectionSet] = Field(description="in the order of the request's sets")
    usage: Usage = Field(description="teacher tokens of this request")


class ScoreReply(WireModel):
    """Reply of ``/v1/score``."""

    teacher: TeacherId = Field(description=SCORED_BY)
    sets: list[ScoreSet] = Field(description="in the order of the request's sets")
    usage: Usage = Field(description="teacher tokens of this request")
