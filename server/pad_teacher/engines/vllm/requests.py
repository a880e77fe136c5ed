"""Queries as requests to vLLM, and which parts of its replies count: no vLLM in here, and no model.

A set takes two stages. The first runs the prompt alone and reads its prediction at the first token of each response.
The second runs prompt and response and reads the rows behind that token; the prompt comes from vLLM's prefix cache.
What came from the cache has no log-probabilities: vLLM leaves that memory as it finds it and says nothing. So a row
counts only where ``num_cached_tokens`` ends before the position that predicts it, and its token id is the one asked
about; what is missing is taken from a response with the same beginning, or computed again without the cache.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pad_teacher.engines.base import EngineFailed
from pad_teacher.engines.queries import Answer, Echo, EchoLogprobs, FloatArray, IntArray, Query, Questions, TokenSet

MAX_NEXT_IDS = 128  # that vLLM takes in one request


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: token ids to run, and what is wanted of them.

    ``next_ids`` are tokens whose log-probability as the next one is wanted; ``rows`` counts the last ids whose own
    log-probability is, each with the ``top`` likeliest in its place; ``cached`` allows rows to come from the cache.
    """

    ids: list[int]
    next_ids: tuple[int, ...] = ()
    rows: int = 0
    top: int = 0
    cached: bool = True


@dataclass(frozen=True, slots=True)
class Rows:
    """Token ids and log-probabilities ``[rows, 1 + top]``: the token itself first, then the likeliest ones."""

    ids: IntArray
    log_probs: FloatArray


Send = Callable[[Ask], Awaitable[Any]]  # to vLLM, which answers with its RequestOutput


def sampling(ask: Ask) -> dict[str, Any]:
    """The fields of vLLM's ``SamplingParams``.

    Never ``logprobs``: a step that runs it beside another request's ``logprob_token_ids`` answers it with -inf.
    """
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "detokenize": False,
        "flat_logprobs": True,
        "logprob_token_ids": list(ask.next_ids) or None,
        "prompt_logprobs": ask.top if ask.rows else None,
        "skip_reading_prefix_cache": not ask.cached,
    }


async def answer(query: Query, send: Send) -> Answer:
    """The answer to one query.

    Raises:
        EngineFailed: where vLLM leaves out what it was to compute.
    """
    match query:
        case TokenSet(prompt_ids, response_ids):
            scored = await _responses(prompt_ids, list(dict.fromkeys(map(tuple, response_ids))), send)
            return [scored[tuple(ids)] for ids in response_ids]
        case Questions(prompts, label_ids):
            asked = await asyncio.gather(*(_next(ids, label_ids, send) for ids in prompts))
            return [np.array([values[label] for label in label_ids], np.float32) for values in asked]
        case Echo(ids, top, everywhere):
            # A placeholder behind the text, whose row has what comes next.
            ask = Ask([*ids, 0], rows=len(ids) if everywhere else 1, top=top, cached=not everywhere)
            rows = await _rows(ask, send)
            return EchoLogprobs(rows.log_probs[:-1, 0], rows.ids[:, 1:], rows.log_probs[:, 1:])


async def plain(prompt_ids: list[int], response_ids: list[int], send: Send) -> FloatArray:
    """One response in one request and without the cache."""
    rows = await _rows(Ask(prompt_ids + response_ids, rows=len(response_ids), cached=False), send)
    return rows.log_probs[:, 0]


async def _responses(
    prompt: list[int], responses: Sequence[tuple[int, ...]], send: Send
) -> dict[tuple[int, ...], FloatArray]:
    """Log-probabilities of different responses to one prompt."""
    firsts = await _next(prompt, [ids[0] for ids in responses], send)
    longer = [ids for ids in responses if ids[1:]]
    asks = {ids: Ask([*prompt, *ids], rows=len(ids) - 1) for ids in longer}
    outputs = await asyncio.gather(*map(send, asks.values()))
    read = {
        ids: computed_rows(ask, output).log_probs[:, 0]
        for (ids, ask), output in zip(asks.items(), outputs, strict=True)
    }
    whole = {ids: values for ids, values in read.items() if len(values) == len(ids) - 1}
    joined = {ids: _join(ids, values, whole) for ids, values in read.items() if ids not in whole}
    behind = whole | {ids: values for ids, values in joined.items() if values is not None}
    again = [ids for ids in asks if ids not in behind]
    rows = await asyncio.gather(*(_rows(replace(asks[ids], cached=False), send) for ids in again))
    behind |= {ids: found.log_probs[:, 0] for ids, found in zip(again, rows, strict=True)}
    nothing = np.zeros(0, np.float32)
    return {ids: np.append(np.float32(firsts[ids[0]]), behind.get(ids, nothing)) for ids in responses}


def _join(ids: tuple[int, ...], values: FloatArray, whole: dict[tuple[int, ...], FloatArray]) -> FloatArray | None:
    """``values`` with what they lack at their front, from a response that begins with the same tokens."""
    missing = len(ids) - 1 - len(values)
    for other, log_probs in whole.items():
        if other[: missing + 1] == ids[: missing + 1]:
            return np.concatenate([log_probs[:missing], values])
    return None


async def _next(ids: list[int], wanted: Sequence[int], send: Send) -> dict[int, float]:
    """Log-probability of each wanted token as the next one."""
    unique = list(dict.fromkeys(wanted))
    parts = [tuple(unique[k : k + MAX_NEXT_IDS]) for k in range(0, len(unique), MAX_NEXT_IDS)]
    outputs = await asyncio.gather(*(send(Ask(ids, next_ids=part)) for part in parts))
    found: dict[int, float] = {}
    for part, output in zip(parts, outputs, strict=True):
        # The sampled token comes first; what lies behind the wanted ones only fills vLLM's table.
        log_probs = output.outputs[0].logprobs
        if log_probs is None or tuple(log_probs.token_ids[1 : 1 + len(part)]) != part:
            raise EngineFailed("vLLM did not give the log-probabilities that were asked for")
        found |= zip(part, log_probs.logprobs[1 : 1 + len(part)], strict=True)
    return found


async def _rows(ask: Ask, send: Send) -> Rows:
    """All rows of a request, computed without the cache if some of them come from there."""
    found = computed_rows(ask, await send(ask))
    if len(found.ids) < ask.rows and ask.cached:
        ask = replace(ask, cached=False)
        found = computed_rows(ask, await send(ask))
    if len(found.ids) < ask.rows:
        raise EngineFailed("vLLM did not compute the log-probabilities that were asked for")
    return found


def computed_rows(ask: Ask, output: Any) -> Rows:
    """Those of the rows asked for that vLLM has computed: the last ones, perhaps none."""
    width = 1 + ask.top
    count = _computed(ask, output)
    flat, items = output.prompt_logprobs, count * width
    ids = np.array(flat.token_ids[-items:] if items else [], np.int64).reshape(-1, width)
    log_probs = np.array(flat.logprobs[-items:] if items else [], np.float32).reshape(-1, width)
    if ids[:, 0].tolist() != ask.ids[len(ask.ids) - count :]:
        return Rows(ids[:0], log_probs[:0])
    return Rows(ids, log_probs)


def _computed(ask: Ask, output: Any) -> int:
    """How many of the rows asked for lie behind what came from the cache."""
    flat, cached = output.prompt_logprobs, output.num_cached_tokens
    if flat is None or cached is None:
        return 0
    # One runner gives a row for each id, the other for those it computed: the same, counted from the end.
    known = len(flat) in (len(ask.ids), len(ask.ids) - cached)
    if not known or len(flat.logprobs) != (len(flat) - 1) * (1 + ask.top):
        return 0
    return max(0, min(ask.rows, len(ask.ids) - 1 - cached))
