"""``/v1/likelihood``: from a request's texts to token ids, and from log-probabilities to the reply."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np

from pad_teacher.engines.queries import Answer, FloatArray, TokenSet
from pad_teacher.errors import Refusal
from pad_teacher.scoring.plan import Plan, PlanBudget, finite_logprobs, usage
from pad_teacher.scoring.teacher import Teacher
from pad_wire import LikelihoodReply, LikelihoodRequest, ResponseSet
from pad_wire.chat import TemplateError
from pad_wire.scoring import Likelihood, LikelihoodSet


@dataclass(frozen=True, slots=True)
class TokenisedSet:
    """One set in token ids; ``truncated`` tells which of its responses were cut to fit the context.

    A set that costs more than a batch is several queries, so that no set holds the engine for long. If likelihoods
    after an empty request are asked too, their queries follow, with the same responses.
    """

    id: str
    where: str
    tokens: TokenSet
    queries: list[TokenSet]
    truncated: list[bool]


def plan_likelihood(teacher: Teacher, request: LikelihoodRequest, budget: PlanBudget) -> Plan:
    """Plan ``/v1/likelihood``.

    Raises:
        Refusal: as ``tokenise``.
    """
    sets = tokenise(teacher, request.sets, budget, truncate=request.truncate, unconditional=request.unconditional)

    def reply(results: Sequence[Answer]) -> LikelihoodReply:
        rest = iter(results)
        scored = [
            LikelihoodSet(id=item.id, responses=likelihoods(item, rest, per_token=request.per_token)) for item in sets
        ]
        return LikelihoodReply(teacher=teacher.id, sets=scored, usage=counted)

    counted = usage(prompt=prompt_tokens(sets), response=response_tokens(sets))
    return Plan([query for item in sets for query in item.queries], counted, reply, [sets])


def tokenise(
    teacher: Teacher, sets: Sequence[ResponseSet], budget: PlanBudget, *, truncate: bool, unconditional: bool = False
) -> list[TokenisedSet]:
    """Render and tokenise each set; ``unconditional`` asks for its likelihoods after an empty request too.

    Raises:
        Refusal: if the template refuses a prompt, or a response does not fit the context and ``truncate`` is false.
    """
    tokenised = [_tokenise_set(teacher, item, index, budget, truncate) for index, item in enumerate(sets)]
    if unconditional:
        with template_at("unconditional"):
            empty_ids = teacher.prompts.ids(teacher.encoder, "")
        room = teacher.engine.max_context_tokens - len(empty_ids)
        for item in tokenised:
            # A template's default system message can make the empty request longer than the prompt itself.
            if any(len(ids) > room for ids in item.tokens.response_ids):
                message = (
                    f"a response exceeds the {room} tokens that fit the teacher's context after an empty request"
                )
                raise Refusal("too_long", message, where=item.where)
            more = list(_split(TokenSet(empty_ids, item.tokens.response_ids), budget.batch_tokens))
            budget.spend(sum(query.cost for query in more), item.where)
            item.queries.extend(more)
    return tokenised


@contextmanager
def template_at(where: str) -> Iterator[None]:
    """Refuse the request if the template refuses the prompt at ``where``.

    Raises:
        Refusal: ``template_refused``.
    """
    try:
        yield
    except TemplateError as error:
        place = where if error.message is None or not where.endswith(".prompt") else f"{where}[{error.message}]"
        raise Refusal("template_refused", str(error), where=place) from error


def likelihoods(item: TokenisedSet, results: Iterator[Answer], *, per_token: bool) -> list[Likelihood]:
    """The reply to one set; takes the answers to its queries from ``results``."""
    arrays = [array for _ in item.queries for array in cast(list[FloatArray], next(results))]
    n = len(item.truncated)
    after_nothing = arrays[n:] or [None] * n
    rows = zip(arrays[:n], after_nothing, item.truncated, strict=True)
    return [
        _likelihood(log_probs, unconditional, truncated, f"{item.where}.responses[{j}]", per_token=per_token)
        for j, (log_probs, unconditional, truncated) in enumerate(rows)
    ]


def prompt_tokens(sets: Sequence[TokenisedSet]) -> int:
    """Tokens of all prompts, each counted once."""
    return sum(len(item.tokens.prompt_ids) for item in sets)


def response_tokens(sets: Sequence[TokenisedSet]) -> int:
    """Tokens of all responses, twice if they are read after an empty request too."""
    return sum(len(ids) for item in sets for query in item.queries for ids in query.response_ids)


def _tokenise_set(
    teacher: Teacher, item: ResponseSet, index: int, budget: PlanBudget, truncate: bool
) -> TokenisedSet:
    where = f"sets[{index}]"
    with template_at(f"{where}.prompt"):
        prompt_ids = teacher.prompts.ids(teacher.encoder, item.prompt)
    if not prompt_ids:
        raise Refusal("template_refused", "the prompt renders to no token at all", where=f"{where}.prompt")
    limit = teacher.engine.max_context_tokens
    room = limit - len(prompt_ids)
    if room < 1:
        message = f"the prompt has {len(prompt_ids)} tokens; the teacher's context holds {limit} with the response"
        raise Refusal("too_long", message, where=f"{where}.prompt")
    response_ids = teacher.encoder.response_ids(
        [response.text for response in item.responses], [response.finished for response in item.responses]
    )
    for j, ids in enumerate(response_ids):
        if not ids:
            message = "an unfinished response with no text has no token to score"
            raise Refusal("invalid_request", message, where=f"{where}.responses[{j}]")
        if len(ids) > room and not truncate:
            message = (
                f"the response has {len(ids)} tokens, and {room} fit the teacher's context after its prompt;"
                ' shorten it or send "truncate": true'
            )
            raise Refusal("too_long", message, where=f"{where}.responses[{j}]")
    truncated = [len(ids) > room for ids in response_ids]
    tokens = TokenSet(prompt_ids, [ids[:room] for ids in response_ids])
    queries = list(_split(tokens, budget.batch_tokens))
    budget.spend(sum(query.cost for query in queries), where)
    return TokenisedSet(item.id if item.id is not None else str(index), where, tokens, queries, truncated)


def _split(tokens: TokenSet, most: int) -> Iterator[TokenSet]:
    """The set in few queries of at most ``most`` tokens; a response is never divided."""
    part: list[list[int]] = []
    cost = len(tokens.prompt_ids)
    for ids in tokens.response_ids:
        if part and cost + len(ids) > most:
            yield TokenSet(tokens.prompt_ids, part)
            part, cost = [], len(tokens.prompt_ids)
        part.append(ids)
        cost += len(ids)
    yield TokenSet(tokens.prompt_ids, part)


def _likelihood(
    log_probs: FloatArray, unconditional: FloatArray | None, truncated: bool, where: str, *, per_token: bool
) -> Likelihood:
    total = float(finite_logprobs(log_probs, where).sum(dtype=np.float64))
    return Likelihood(
        log_likelihood=total,
        tokens=len(log_probs),
        mean_log_likelihood=total / len(log_probs),
        unconditional_log_likelihood=(
            None if unconditional is None else float(finite_logprobs(unconditional, where).sum(dtype=np.float64))
        ),
        token_log_likelihoods=log_probs.tolist() if per_token else None,
        truncated=truncated or None,
    )
