"""``/v1/score``: likelihood and selection of the same sets in one call, and the reward that combines them."""

from collections.abc import Sequence
from math import log

from pad_teacher.engines.queries import Answer, Query
from pad_teacher.errors import Refusal
from pad_teacher.scoring.likelihood import TokenisedSet, likelihoods, prompt_tokens, response_tokens, tokenise
from pad_teacher.scoring.plan import Plan, PlanBudget, usage
from pad_teacher.scoring.questions import Choice
from pad_teacher.scoring.selection import AskedSet, ask, question_tokens
from pad_teacher.scoring.teacher import Teacher
from pad_wire import ScoreReply, ScoreRequest
from pad_wire.scoring import Likelihood, Score, ScoreSet


def plan_score(teacher: Teacher, request: ScoreRequest, budget: PlanBudget) -> Plan:
    """Plan ``/v1/score``.

    Raises:
        Refusal: as ``tokenise`` and ``ask``.
    """
    sets = tokenise(teacher, request.sets, budget, truncate=request.truncate, unconditional=request.unconditional)
    asked = ask(teacher, request, budget)
    counted = usage(prompt=prompt_tokens(sets), response=response_tokens(sets), question=question_tokens(asked))

    def reply(results: Sequence[Answer]) -> ScoreReply:
        rest = iter(results)
        worded = [likelihoods(item, rest, per_token=request.per_token) for item in sets]
        choices = [questions.choice(rest) for questions in asked]
        scored = [_score_set(*parts, request.alpha) for parts in zip(sets, worded, asked, choices, strict=True)]
        return ScoreReply(teacher=teacher.id, sets=scored, usage=counted)

    queries: list[Query] = [query for item in (*sets, *asked) for query in item.queries]
    return Plan(queries, counted, reply, [sets, asked])


def _score_set(
    item: TokenisedSet, likelihoods: list[Likelihood], questions: AskedSet, choice: Choice, alpha: float | None
) -> ScoreSet:
    rows = zip(likelihoods, choice.selection_probabilities, questions.truncated, strict=True)
    responses = [
        Score(
            **likelihood.model_dump(exclude={"truncated"}),
            selection_probability=probability,
            reward=_reward(likelihood, probability, alpha, f"{item.where}.responses[{j}]"),
            truncated=likelihood.truncated or truncated or None,
        )
        for j, (likelihood, probability, truncated) in enumerate(rows)
    ]
    return ScoreSet(
        id=item.id,
        responses=responses,
        label_mass=choice.label_mass,
        orders_asked=len(questions.orders),
        order_disagreement=choice.order_disagreement,
    )


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
