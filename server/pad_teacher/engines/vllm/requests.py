"""Queries as requests to vLLM, and which rows of its replies count; neither vLLM nor a model is imported here.

A set takes two stages. The first runs the prompt alone and reads its prediction of each response's first token. The
second runs prompt and response and reads the rows after that token; the prompt comes from vLLM's prefix cache.

Cached tokens have no log-probabilities: vLLM leaves uninitialised memory in their rows, without a warning. So a row
counts only if its predicting position comes after the first ``num_cached_tokens`` tokens, and if its token id is the
one asked about. A missing row is taken from a response with the same beginning, or computed again without the cache.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pad_teacher.engines.base import EngineFailed
from pad_teacher.engines.distributions import packed
from pad_teacher.engines.queries import (
    Answer,
    Echo,
    EchoLogprobs,
    FloatArray,
    IntArray,
    NextTokens,
    Query,
    Questions,
    TokenSet,
)
from pad_wire.token_logprobs import MAX_TOP

MAX_NEXT_IDS = 128  # the most that vLLM takes in one request
WIDER = 2  # times as many likeliest tokens as are named: those that are not named are most of the rest
MOST_IDS = WIDER * MAX_TOP + 1  # likeliest tokens of one place


@dataclass(frozen=True, slots=True)
class VllmRequest:
    """One request: token ids to run, and the log-probabilities to read.

    ``next_ids`` are read as the token after ``ids``. ``rows`` is the number of last ids that are read themselves,
    each with the ``top`` likeliest tokens in its place. ``cached`` allows the prefix cache.
    """

    ids: list[int]
    next_ids: tuple[int, ...] = ()
    rows: int = 0
    top: int = 0
    cached: bool = True


@dataclass(frozen=True, slots=True)
class Rows:
    """Token ids and log-probabilities ``[rows, 1 + top]``: the token itself, then the likeliest ones."""

    ids: IntArray
    log_probs: FloatArray


Send = Callable[[VllmRequest], Awaitable[Any]]  # to vLLM, which answers with its RequestOutput


def sampling_params(request: VllmRequest) -> dict[str, Any]:
    """The fields of vLLM's ``SamplingParams``.

    Never ``logprobs``: in a step with another request's ``logprob_token_ids``, vLLM answers it with -inf.
    """
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "detokenize": False,
        "flat_logprobs": True,
        "logprob_token_ids": list(request.next_ids) or None,
        "prompt_logprobs": request.top if request.rows else None,
        "skip_reading_prefix_cache": not request.cached,
    }


async def answer(query: Query, send: Send, vocabulary: int) -> Answer:
    """The answer to one query of a model that has ``vocabulary`` tokens.

    Raises:
        EngineFailed: if vLLM does not compute what was asked for.
    """
    match query:
        case TokenSet(prompt_ids, response_ids):
            scored = await _responses(prompt_ids, list(dict.fromkeys(map(tuple, response_ids))), send)
            return [scored[tuple(ids)] for ids in response_ids]
        case NextTokens(TokenSet(prompt_ids, response_ids), at=None):
            unique = list(dict.fromkeys(map(tuple, response_ids)))
            rows = await asyncio.gather(*(_distribution(query, ids, send, vocabulary) for ids in unique))
            found = dict(zip(unique, rows, strict=True))
            return [found[tuple(ids)] for ids in response_ids]
        case NextTokens():
            raise EngineFailed("vLLM cannot score at given ids")  # such a request is refused before it gets here
        case Questions(prompts, label_ids):
            asked = await asyncio.gather(*(_next(ids, label_ids, send) for ids in prompts))
            return [np.array([values[label] for label in label_ids], np.float32) for values in asked]
        case Echo(ids, top, everywhere):
            # A placeholder after the text: its row has the likeliest next tokens.
            request = VllmRequest([*ids, 0], rows=len(ids) if everywhere else 1, top=top, cached=not everywhere)
            rows = await _rows(request, send)
            return EchoLogprobs(rows.log_probs[:-1, 0], rows.ids[:, 1:], rows.log_probs[:, 1:])


async def score_without_cache(prompt_ids: list[int], response_ids: list[int], send: Send) -> FloatArray:
    """Log-probabilities of one response, in one request."""
    rows = await _rows(VllmRequest(prompt_ids + response_ids, rows=len(response_ids), cached=False), send)
    return rows.log_probs[:, 0]


async def _responses(
    prompt: list[int], responses: Sequence[tuple[int, ...]], send: Send
) -> dict[tuple[int, ...], FloatArray]:
    """Log-probabilities of different responses to one prompt."""
    firsts = await _next(prompt, [ids[0] for ids in responses], send)
    longer = [ids for ids in responses if ids[1:]]
    requests = {ids: VllmRequest([*prompt, *ids], rows=len(ids) - 1) for ids in longer}
    outputs = await asyncio.gather(*map(send, requests.values()))
    read = {
        ids: computed_rows(request, output).log_probs[:, 0]
        for (ids, request), output in zip(requests.items(), outputs, strict=True)
    }
    whole = {ids: values for ids, values in read.items() if len(values) == len(ids) - 1}
    joined = {ids: _join(ids, values, whole) for ids, values in read.items() if ids not in whole}
    found = whole | {ids: values for ids, values in joined.items() if values is not None}
    again = [ids for ids in requests if ids not in found]
    rows = await asyncio.gather(*(_rows(replace(requests[ids], cached=False), send) for ids in again))
    found |= {ids: each.log_probs[:, 0] for ids, each in zip(again, rows, strict=True)}
    nothing = np.zeros(0, np.float32)
    return {ids: np.append(np.float32(firsts[ids[0]]), found.get(ids, nothing)) for ids in responses}


def _join(ids: tuple[int, ...], values: FloatArray, whole: dict[tuple[int, ...], FloatArray]) -> FloatArray | None:
    """``values`` with those missing at their front, from a response that begins with the same tokens; or None."""
    missing = len(ids) - 1 - len(values)
    for other, log_probs in whole.items():
        if other[: missing + 1] == ids[: missing + 1]:
            return np.concatenate([log_probs[:missing], values])
    return None


async def _distribution(query: NextTokens, response: tuple[int, ...], send: Send, vocabulary: int) -> FloatArray:
    """The row of one response; without the cache, whose tokens have no log-probabilities."""
    ids = [*query.tokens.prompt_ids, *response]
    # vLLM knows no limit of ids: with so many, ``top`` of them are below it, whichever are the likeliest.
    wide = min(max(WIDER * query.top + 1, query.top + vocabulary - query.below), vocabulary)
    rows = await _rows(VllmRequest(ids, rows=len(response), top=wide, cached=False), send)
    return packed(rows.log_probs[:, 0], *_named_and_rest(rows, query.top, query.below, vocabulary))


def _named_and_rest(rows: Rows, top: int, below: int, vocabulary: int) -> tuple[FloatArray, IntArray, FloatArray]:
    """The rest [rows], the ``top`` likeliest ids below ``below``, and their log-probabilities.

    vLLM does not tell the sum over all others. Those that it does tell are summed as they are. The remainder is
    1 - Σp, but at most as much as the least likely one that is told for each of the ``vocabulary`` that is not: where
    little is left, 1 - Σp is only the rounding of the others.
    """
    ids, log_probs = rows.ids[:, 1:], rows.log_probs[:, 1:].astype(np.float64)
    order = np.argsort(ids >= below, axis=1, kind="stable")  # ids past the limit join the rest
    ids, log_probs = np.take_along_axis(ids, order, 1), np.take_along_axis(log_probs, order, 1)
    told, untold = log_probs[:, top:], vocabulary - ids.shape[1]
    if untold:
        least = log_probs.min(1)
        left = np.log(np.maximum(1 - np.exp(log_probs).sum(1), np.exp(least)))
        told = np.column_stack([told, np.minimum(left, least + np.log(untold))])
    return np.logaddexp.reduce(told, axis=1).astype(np.float32), ids[:, :top], log_probs[:, :top].astype(np.float32)


async def _next(ids: list[int], wanted: Sequence[int], send: Send) -> dict[int, float]:
    """Log-probability of each wanted token as the next one."""
    unique = list(dict.fromkeys(wanted))
    parts = [tuple(unique[k : k + MAX_NEXT_IDS]) for k in range(0, len(unique), MAX_NEXT_IDS)]
    outputs = await asyncio.gather(*(send(VllmRequest(ids, next_ids=part)) for part in parts))
    found: dict[int, float] = {}
    for part, output in zip(parts, outputs, strict=True):
        # The sampled token comes first; all after the wanted ones only fills vLLM's table.
        log_probs = output.outputs[0].logprobs
        if log_probs is None or tuple(log_probs.token_ids[1 : 1 + len(part)]) != part:
            raise EngineFailed("vLLM did not give the log-probabilities that were asked for")
        found |= zip(part, log_probs.logprobs[1 : 1 + len(part)], strict=True)
    return found


async def _rows(request: VllmRequest, send: Send) -> Rows:
    """All rows of a request; computed again without the cache if some of them came from it."""
    found = computed_rows(request, await send(request))
    if len(found.ids) < request.rows and request.cached:
        request = replace(request, cached=False)
        found = computed_rows(request, await send(request))
    if len(found.ids) < request.rows:
        raise EngineFailed("vLLM did not compute the log-probabilities that were asked for")
    return found


def computed_rows(request: VllmRequest, output: Any) -> Rows:
    """The rows that vLLM has computed: the last ones of those asked for, perhaps none."""
    width = 1 + request.top
    count = _computed(request, output)
    flat, items = output.prompt_logprobs, count * width
    ids = np.array(flat.token_ids[-items:] if items else [], np.int64).reshape(-1, width)
    log_probs = np.array(flat.logprobs[-items:] if items else [], np.float32).reshape(-1, width)
    if ids[:, 0].tolist() != request.ids[len(request.ids) - count :]:
        return Rows(ids[:0], log_probs[:0])
    return Rows(ids, log_probs)


def _computed(request: VllmRequest, output: Any) -> int:
    """The number of rows asked for whose predicting position did not come from the cache."""
    flat, cached = output.prompt_logprobs, output.num_cached_tokens
    if flat is None or cached is None:
        return 0
    # One model runner gives a row for each id, the other only for computed ones: the same, counted from the end.
    known = len(flat) in (len(request.ids), len(request.ids) - cached)
    if not known or len(flat.logprobs) != (len(flat) - 1) * (1 + request.top):
        return 0
    return max(0, min(request.rows, len(request.ids) - 1 - cached))
