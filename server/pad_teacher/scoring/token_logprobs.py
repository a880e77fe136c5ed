"""``/v1/token_logprobs``: the distribution over the next token at each scored token, of one model or of two."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pad_teacher.engines.distributions import Distribution, Distributions, unpacked
from pad_teacher.engines.queries import Answer, FloatArray, IntArray, NextTokens, Query
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.likelihood import TokenisedSet, prompt_tokens, response_tokens, tokenise
from pad_teacher.scoring.plan import Plan, PlanBudget, usage
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.scoring.tensors import Tensor, TensorReply, TensorRequest
from pad_wire import Usage
from pad_wire.token_logprobs import (
    MAX_JSON_NUMBERS,
    MAX_TOP,
    SAFETENSORS,
    TokenLogprobs,
    TokenLogprobsReply,
    TokenLogprobsRequest,
    TokenLogprobsSet,
)


def plan_token_logprobs(
    teacher: Teacher, asked: TokenLogprobsRequest | TensorRequest[TokenLogprobsRequest], budget: PlanBudget
) -> Steps[Plan]:
    """Plan ``/v1/token_logprobs``; a request in tensors has the ids it asks about as the tensor ``at``.

    Raises:
        Refusal: as ``tokenise``; ``unsupported`` if this service cannot answer; ``too_long`` for a reply that is too
            large for JSON; ``invalid_request`` if the ids do not fit the sets.
    """
    request, named = _at_in_tensors(asked) if isinstance(asked, TensorRequest) else (asked, None)
    below = min(teacher.engine.vocabulary, request.vocabulary or teacher.engine.vocabulary)
    given = request.at is not None or named is not None
    _refuse_unanswerable(teacher, request, below, given=given)
    sets = yield from tokenise(teacher, request.sets, budget, truncate=request.truncate)
    counts = [len(ids) for item in sets for ids in item.tokens.response_ids]
    at = _ids_asked(request.at, named, sets, counts, below) if given else None
    top = request.top if at is None else at[0].shape[1]
    numbers = 5 + 3 * top if request.reference else 3 + 2 * top
    if budget.as_json and sum(counts) * numbers > MAX_JSON_NUMBERS:
        message = f"the reply is too large for JSON: send fewer sets, or ask for it with Accept: {SAFETENSORS}"
        raise Refusal("too_long", message, where="top")
    queries = list(_queries(sets, top, below, at, request.reference))
    more = sum(query.cost - query.tokens.cost for query in queries)
    budget.spend(more, "sets")
    budget.charge(more, "sets")
    counted = usage(prompt=prompt_tokens(sets), response=response_tokens(sets))

    def reply(results: Sequence[Answer]) -> Steps[TensorReply]:
        rows = [row for result in results for row in cast(list[FloatArray], result)]
        yield
        return _reply(teacher, request, sets, rows, top, counted)

    return Plan(cast(list[Query], queries), counted, reply, [sets])


def _at_in_tensors(
    asked: TensorRequest[TokenLogprobsRequest],
) -> tuple[TokenLogprobsRequest, NDArray[Any] | None]:
    """The request, and its tensor ``at`` if it has one; another tensor would silently change nothing."""
    if asked.tensors.keys() - {"at"}:
        raise Refusal("invalid_request", "the file holds a tensor of another name than at")
    if asked.tensors and asked.request.at is not None:
        raise Refusal("invalid_request", "at is given twice: as a tensor, and in the metadata request", where="at")
    return asked.request, asked.tensors.get("at")


def _refuse_unanswerable(teacher: Teacher, request: TokenLogprobsRequest, below: int, *, given: bool) -> None:
    if request.reference and teacher.reference is None:
        message = "this service has no reference model: start it with --reference MODEL"
        raise Refusal("unsupported", message, where="reference")
    if given and not teacher.engine.scores_given_ids:
        message = f"the engine {teacher.engine.name} cannot score at given ids; use --engine transformers"
        raise Refusal("unsupported", message, where="at")
    if not given and request.top >= below:
        message = f"top must be less than the {below} tokens of the vocabulary: the rest would be empty"
        raise Refusal("invalid_request", message, where="top")
    whole, most = teacher.engine.vocabulary, teacher.engine.most_ids
    if not given and most is not None and below < (least := whole + request.top - most):
        message = f"the engine {teacher.engine.name} can leave out {whole - least} of the teacher's {whole} tokens"
        message += f" at this top: give {least} or more, or use --engine transformers"
        raise Refusal("unsupported", message, where="vocabulary")


def _ids_asked(
    nested: list[list[list[list[int]]]] | None,
    named: NDArray[Any] | None,
    sets: Sequence[TokenisedSet],
    counts: Sequence[int],
    below: int,
) -> list[IntArray]:
    """The ids that the request names at each scored token of each response: nested lists, or one array."""
    if nested is not None:
        shape = [[len(response) for response in of_set] for of_set in nested]
        if shape != [[len(ids) for ids in item.tokens.response_ids] for item in sets]:
            raise _other_tokens(sum(map(sum, shape)), sum(counts))
        rows = [ids for of_set in nested for response in of_set for ids in response]
        if len({len(ids) for ids in rows}) > 1:
            raise Refusal("invalid_request", "every token needs as many ids as the others", where="at")
        named = np.array(rows)
    if named is None or named.ndim != 2 or named.dtype.kind not in "iu" or not 1 <= named.shape[1] <= MAX_TOP:
        message = f"at has 1 to {MAX_TOP} ids for each scored token, in whole numbers"
        raise Refusal("invalid_request", message, where="at")
    if len(named) != sum(counts):
        raise _other_tokens(len(named), sum(counts))
    in_order = np.sort(named.astype(np.int64), axis=1)
    if in_order[:, -1].max() >= below or in_order.min() < 0:
        raise Refusal("invalid_request", f"a token id is past the vocabulary of {below}", where="at")
    if (in_order[:, 1:] == in_order[:, :-1]).any():
        raise Refusal("invalid_request", "an id is named twice at one token", where="at")
    if named.shape[1] >= below:
        raise Refusal("invalid_request", "all tokens are named: the rest would be empty", where="at")
    return np.split(named.astype(np.int64), np.cumsum(counts)[:-1])


def _other_tokens(given: int, counted: int) -> Refusal:
    message = f"ids are named at {given} tokens, and the teacher scores {counted}, perhaps in other responses"
    return Refusal("invalid_request", message, where="at")


def _queries(
    sets: Sequence[TokenisedSet], top: int, below: int, at: Sequence[IntArray] | None, reference: bool
) -> Iterator[NextTokens]:
    done = 0
    for tokens in (query for item in sets for query in item.queries):
        here = None if at is None else list(at[done : done + len(tokens.response_ids)])
        done += len(tokens.response_ids)
        yield NextTokens(tokens, top, below, here, reference)


def _reply(
    teacher: Teacher,
    request: TokenLogprobsRequest,
    sets: Sequence[TokenisedSet],
    rows: Sequence[FloatArray],
    top: int,
    counted: Usage,
) -> TensorReply:
    ids = [ids for item in sets for ids in item.tokens.response_ids]
    names = [f"{item.where}.responses[{j}]" for item in sets for j in range(len(item.truncated))]
    for row, name in zip(rows, names, strict=True):
        if not np.isfinite(row).all():
            message = "the teacher's log-probability is not finite"
            raise Refusal("engine_failed", message, where=name, retryable=False)
    read = [unpacked(row, len(tokens), reference=request.reference) for row, tokens in zip(rows, ids, strict=True)]
    reference = teacher.reference if request.reference else None
    metadata = {
        "model": teacher.id.model,
        "fingerprint": teacher.id.fingerprint,
        "tokenizer": teacher.tokenizer_digest,
        "ids": json.dumps([item.id for item in sets]),
        "responses": json.dumps([len(item.truncated) for item in sets]),
        "truncated": json.dumps([k for k, cut in enumerate(cut for s in sets for cut in s.truncated) if cut]),
        "usage": counted.model_dump_json(exclude_none=True),
    }
    if reference:
        metadata |= {"reference_model": reference.model, "reference_fingerprint": reference.fingerprint}

    def as_json() -> TokenLogprobsReply:
        left = iter(zip(ids, read, strict=True))
        return TokenLogprobsReply(
            teacher=teacher.id,
            reference=reference,
            tokenizer=teacher.tokenizer_digest,
            sets=[
                TokenLogprobsSet(id=s.id, responses=[_as_json(*next(left), top, cut) for cut in s.truncated])
                for s in sets
            ],
            usage=counted,
        )

    return TensorReply(list(_tensors(ids, read, top, request.values)), metadata, as_json)


def _tensors(ids: Sequence[list[int]], read: Sequence[Distributions], top: int, values: str) -> Iterator[Tensor]:
    counts = [len(tokens) for tokens in ids]
    N, offsets = sum(counts), np.concatenate([[0], np.cumsum(counts)])
    yield Tensor("offsets", "uint32", (len(offsets),), [offsets])
    yield Tensor("token_ids", "uint32", (N,), [np.asarray(tokens) for tokens in ids])
    teacher = [each.teacher.narrowed(top) for each in read]
    yield Tensor("token_logprobs", "float32", (N,), [each.token_logprobs_T for each in teacher])
    yield Tensor("top_ids", "uint32", (N, top), [each.ids_T_K[:, :top] for each in read])
    yield Tensor("top_logprobs", values, (N, top), [each.logprobs_T_K for each in teacher])
    yield Tensor("rest", "float32", (N,), [each.rest_T for each in teacher])
    reference = [each.reference.narrowed(top) for each in read if each.reference]
    if reference:
        yield Tensor("reference_token_logprobs", "float32", (N,), [each.token_logprobs_T for each in reference])
        yield Tensor("reference_logprobs", values, (N, top), [each.logprobs_T_K for each in reference])
        yield Tensor("reference_rest", "float32", (N,), [each.rest_T for each in reference])


def _as_json(tokens: list[int], read: Distributions, top: int, truncated: bool) -> TokenLogprobs:
    teacher = read.teacher.narrowed(top)
    reference: Distribution | None = read.reference and read.reference.narrowed(top)
    more: dict[str, Any] = {}
    if reference:
        more = {
            "reference_token_logprobs": reference.token_logprobs_T.tolist(),
            "reference_logprobs": reference.logprobs_T_K.tolist(),
            "reference_rest": reference.rest_T.tolist(),
        }
    return TokenLogprobs(
        token_ids=tokens,
        token_logprobs=teacher.token_logprobs_T.tolist(),
        top_ids=read.ids_T_K[:, :top].tolist(),
        top_logprobs=teacher.logprobs_T_K.tolist(),
        rest=teacher.rest_T.tolist(),
        truncated=truncated or None,
        **more,
    )
