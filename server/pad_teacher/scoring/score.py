"""``/v1/score``: likelihood and selection of the same sets in one call, and the reward that combines them."""

from collections.abc import Sequence
from math import log

from pad_teacher.engines.queries import Answer
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.likelihood import (
    TokenisedSet,
    likelihoods,
    prompt_tokens,
    response_tokens,
    tokenise,
    with_token_texts,
)
from pad_teacher.scoring.plan import Plan, PlanBudget, usage
from pad_teacher.scoring.questions import Choice
from pad_teacher.scoring.selection import AskedSet, ask, plan_of_questions, refuse_too_many_questions
from pad_teacher.scoring.teacher import Teacher
from pad_wire import ScoreReply, ScoreRequest, Usage
from pad_wire.scoring import Likelihood, Score, ScoreSet


def plan_score(teacher: Teacher, request: ScoreRequest, budget: PlanBudget) -> Steps[Plan]:
    """Plan ``/v1/score``.

    Raises:
        Refusal: as ``refuse_too_many_questions``, ``tokenise`` and ``ask``.
    """
    refuse_too_many_questions(teacher, request, budget)
    sets = yield from tokenise(
        teacher, request.sets, budget, truncate=request.truncate, unconditional=request.unconditional
    )
    asked = yield from ask(teacher, request, budget)

    def reply(answers: Sequence[Answer], choices: Sequence[Choice], counted: Usage) -> Steps[ScoreReply]:
        rest = iter(answers)
        scored: list[ScoreSet] = []
        for item, questions, choice in zip(sets, asked, choices, strict=True):
            responses = likelihoods(item, rest, per_token=request.per_token)
            if request.token_texts:
                responses = yield from with_token_texts(teacher, item, responses)
            scored.append(_score_set(item, responses, questions, choice, request))
            yield
        return ScoreReply(teacher=teacher.id, sets=scored, usage=counted)

    queries = [query for item in sets for query in item.queries]
    read = usage(prompt=prompt_tokens(sets), response=response_tokens(sets))
    return plan_of_questions(asked, request.tolerance, read, reply, queries, [sets])


def _score_set(
    item: TokenisedSet, likelihoods: list[Likelihood], questions: AskedSet, choice: Choice, request: ScoreRequest
) -> ScoreSet:
    rows = zip(likelihoods, questions.of_responses(choice), strict=True)
    responses = [
        Score(
            **likelihood.model_dump(exclude={"truncated"}),
            selection_probability=probability,
            reward=_reward(likelihood, probability, request.alpha, f"{item.where}.responses[{j}]"),
            truncated=likelihood.truncated or truncated or None,
        )
        for j, (likelihood, (probability, truncated)) in enumerate(rows)
    ]
    return ScoreSet(**questions.fields(choice, per_order=request.per_order), responses=responses)


def _reward(likelihood: Likelihood, probability: float, alpha: float | None, where: str) -> float | None:
    """(1 - alpha) * mean log-likelihood + alpha * log selection probability (PAD, arXiv 2502.14272)."""
    if alpha is None:
        return None
    if alpha == 0:
        return likelihood.mean_log_likelihood
    if probability == 0:
        raise Refusal(
            "engine_failed", "the selection probability is too small for a logarithm", where=where, retryable=False
        )
    return (1 - alpha) * likelihood.mean_log_likelihood + alpha * log(probability)
