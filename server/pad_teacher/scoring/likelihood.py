"""``/v1/likelihood``: from a request's texts to token ids, and from log-probabilities to the reply."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np

from pad_teacher.engines.queries import Answer, FloatArray, TokenSet
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.long_texts import batches, beginning, is_too_long
from pad_teacher.scoring.plan import Plan, PlanBudget, finite_logprobs, usage
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.scoring.token_texts import token_texts
from pad_wire import LikelihoodReply, LikelihoodRequest, ResponseSet, SentResponse
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


def plan_likelihood(teacher: Teacher, request: LikelihoodRequest, budget: PlanBudget) -> Steps[Plan]:
    """Plan ``/v1/likelihood``.

    Raises:
        Refusal: as ``tokenise``.
    """
    sets = yield from tokenise(
        teacher, request.sets, budget, truncate=request.truncate, unconditional=request.unconditional
    )

    def reply(results: Sequence[Answer]) -> Steps[LikelihoodReply]:
        rest = iter(results)
        scored: list[LikelihoodSet] = []
        for item in sets:
            responses = likelihoods(item, rest, per_token=request.per_token)
            if request.token_texts:
                responses = yield from with_token_texts(teacher, item, responses)
            scored.append(LikelihoodSet(id=item.id, responses=responses))
            yield
        return LikelihoodReply(teacher=teacher.id, sets=scored, usage=counted)

    counted = usage(prompt=prompt_tokens(sets), response=response_tokens(sets))
    return Plan([query for item in sets for query in item.queries], counted, reply, [sets])


def tokenise(
    teacher: Teacher, sets: Sequence[ResponseSet], budget: PlanBudget, *, truncate: bool, unconditional: bool = False
) -> Steps[list[TokenisedSet]]:
    """Render and tokenise each set; ``unconditional`` asks for its likelihoods after an empty request too.

    Raises:
        Refusal: if the template refuses a prompt, or a response does not fit the context and ``truncate`` is false.
    """
    tokenised: list[TokenisedSet] = []
    for index, item in enumerate(sets):
        tokenised.append((yield from _tokenise_set(teacher, item, index, budget, truncate)))
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
            cost = sum(query.cost for query in more)
            budget.spend(cost, item.where)
            budget.charge(cost, item.where)
            item.queries.extend(more)
            yield
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


def with_token_texts(teacher: Teacher, item: TokenisedSet, responses: list[Likelihood]) -> Steps[list[Likelihood]]:
    """The reply to one set with the text of each token, a response at a time."""
    shown: list[Likelihood] = []
    for each, ids in zip(responses, item.tokens.response_ids, strict=True):
        shown.append(each.model_copy(update={"token_texts": token_texts(ids, teacher.encoder.decode)[0]}))
        yield
    return shown


def prompt_tokens(sets: Sequence[TokenisedSet]) -> int:
    """Tokens of all prompts, each counted once."""
    return sum(len(item.tokens.prompt_ids) for item in sets)


def response_tokens(sets: Sequence[TokenisedSet]) -> int:
    """Tokens of all responses, twice if they are read after an empty request too."""
    return sum(len(ids) for item in sets for query in item.queries for ids in query.response_ids)


def _tokenise_set(
    teacher: Teacher, item: ResponseSet, index: int, budget: PlanBudget, truncate: bool
) -> Steps[TokenisedSet]:
    where = f"sets[{index}]"
    prompt_ids = yield from _prompt_ids(teacher, item, f"{where}.prompt")
    room = teacher.engine.max_context_tokens - len(prompt_ids)
    budget.spend(len(prompt_ids), where)
    response_ids: list[list[int]] = []
    truncated: list[bool] = []
    for part in batches(item.responses):
        for ids in (yield from _response_ids(teacher, part, f"{where}.responses", len(response_ids), room, truncate)):
            truncated.append(len(ids) > room)
            response_ids.append(ids[:room])
        budget.spend(sum(map(len, response_ids[-len(part) :])), where)
        yield
    tokens = TokenSet(prompt_ids, response_ids)
    queries = list(_split(tokens, budget.batch_tokens))
    cost = sum(query.cost for query in queries)
    budget.spend(cost - tokens.cost, where)  # the prompt once more for each further query
    budget.charge(cost, where)
    return TokenisedSet(item.id if item.id is not None else str(index), where, tokens, queries, truncated)


def _prompt_ids(teacher: Teacher, item: ResponseSet, where: str) -> Steps[list[int]]:
    limit = teacher.engine.max_context_tokens
    if (yield from is_too_long(teacher, item.prompt, limit)):
        message = (
            f"the prompt has far more tokens than the {limit} that the teacher's context holds with the response"
        )
        raise Refusal("too_long", message, where=where)
    with template_at(where):
        ids = teacher.prompts.ids(teacher.encoder, item.prompt)
    if not ids:
        raise Refusal("template_refused", "the prompt renders to no token at all", where=where)
    if len(ids) >= limit:
        message = f"the prompt has {len(ids)} tokens; the teacher's context holds {limit} with the response"
        raise Refusal("too_long", message, where=where)
    yield
    return ids


def _response_ids(
    teacher: Teacher, responses: Sequence[SentResponse], where: str, first: int, room: int, truncate: bool
) -> Steps[list[list[int]]]:
    """Ids of some responses of a set, the number of the first being ``first``; too long ones only to be cut."""
    texts: list[str] = []
    for j, response in enumerate(responses, first):
        texts.append((yield from beginning(teacher, response.text, room)))
        if len(texts[-1]) < len(response.text) and not truncate:
            raise _too_long("far more", room, f"{where}[{j}]")
    rows = teacher.encoder.response_ids(texts, [response.finished for response in responses])
    for j, ids in enumerate(rows, first):
        if not ids:
            message = "an unfinished response with no text has no token to score"
            raise Refusal("invalid_request", message, where=f"{where}[{j}]")
        if len(ids) > room and not truncate:
            raise _too_long(str(len(ids)), room, f"{where}[{j}]")
    return rows


def _too_long(tokens: str, room: int, where: str) -> Refusal:
    message = (
        f"the response has {tokens} tokens, and {room} fit the teacher's context after its prompt;"
        ' shorten it or send "truncate": true'
    )
    return Refusal("too_long", message, where=where)


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
