"""What vLLM is asked, and how its prefix cache is kept out of scores."""

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from pad_teacher.engines.base import EngineFailed
from pad_teacher.engines.distributions import unpacked
from pad_teacher.engines.queries import (
    Answer,
    Echo,
    EchoLogprobs,
    FloatArray,
    NextTokens,
    Query,
    Questions,
    TokenSet,
)
from pad_teacher.engines.vllm.requests import VllmRequest, answer, computed_rows, sampling_params, score_without_cache
from support.fake_vllm import GARBAGE, VOCABULARY, FakeVllm, Flat, likeliest
from support.fakes import log_prob

BLOCK = 4
PROMPTS = {"one token": [9], "shorter than a block": [9, 8, 7], "whole blocks": [*range(8)], "odd": [*range(10)]}
RESPONSES = [[20, 21, 22, 23, 24], [30], [20, 21, 22, 23, 25, 26, 27], [40, 41], [20, 21, 22, 23, 24], [30]]


def ask(vllm: FakeVllm, *queries: Query) -> list[Answer]:
    async def together() -> list[Answer]:
        return list(await asyncio.gather(*(answer(query, vllm.send, VOCABULARY) for query in queries)))

    return asyncio.run(together())


def expected(prompt: list[int], response: list[int]) -> Any:
    return pytest.approx([log_prob(prompt + response[:k], token) for k, token in enumerate(response)], abs=1e-6)


def check(item: TokenSet, scored: Answer) -> None:
    for ids, values in zip(item.response_ids, cast(list[FloatArray], scored), strict=True):
        assert values.dtype == np.float32
        assert values.tolist() == expected(item.prompt_ids, ids)


@pytest.mark.parametrize("second_runner", [False, True])
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_no_garbage_reaches_the_scores_of_a_repeated_set(prompt: list[int], second_runner: bool) -> None:
    vllm = FakeVllm(BLOCK, second_runner)
    item = TokenSet(prompt, RESPONSES)
    for _ in range(3):
        check(item, ask(vllm, item)[0])
    first, second = ask(vllm, item, item)
    check(item, first)
    check(item, second)


def test_a_set_is_one_request_and_one_more_a_distinct_response() -> None:
    vllm = FakeVllm(BLOCK)
    ask(vllm, TokenSet([*range(10)], [[20, 21, 22], [30, 31], [30, 31], [50]]))
    first, *others = vllm.asked
    assert first == VllmRequest([*range(10)], next_ids=(20, 30, 50))
    assert [(one.ids[10:], one.rows) for one in others] == [([20, 21, 22], 2), ([30, 31], 1)]
    assert all(one.cached for one in vllm.asked)


def test_a_cached_row_is_taken_from_the_response_that_has_it() -> None:
    vllm = FakeVllm(BLOCK)
    shared = [20, 21, 22, 23, 24, 25, 26]
    item = TokenSet([*range(8)], [[*shared, 90], [*shared, 91, 92]])
    check(item, ask(vllm, item)[0])
    assert [one.cached for one in vllm.asked] == [True] * 3


def test_a_response_found_in_the_cache_is_computed_without_it() -> None:
    vllm = FakeVllm(BLOCK)
    item = TokenSet([*range(8)], [[20, 21, 22, 23, 24]])
    ask(vllm, item)
    vllm.asked.clear()
    check(item, ask(vllm, item)[0])
    assert [(len(one.ids), one.cached) for one in vllm.asked] == [(8, True), (13, True), (13, False)]


def test_a_cached_row_is_known_by_its_token_too() -> None:
    vllm = FakeVllm(BLOCK, garbage_has_the_right_ids=False)
    item = TokenSet([*range(8)], [[20, 21, 22, 23, 24, 25, 26, 27]])
    ask(vllm, item)
    vllm.cached_tokens = 0  # though 12 were
    check(item, ask(vllm, item)[0])
    assert vllm.asked[-1].cached is False


@pytest.mark.parametrize("missing", [None, 99])
def test_a_reply_that_does_not_say_what_was_cached_is_never_read(missing: int | None) -> None:
    vllm = FakeVllm(BLOCK, cached_tokens=missing)
    with pytest.raises(EngineFailed, match="did not compute"):
        ask(vllm, TokenSet([*range(8)], [[20, 21, 22]]))
    assert vllm.asked[-1].cached is False


@pytest.mark.parametrize("count", [1, 128, 129, 200])
def test_many_first_tokens_or_labels_take_several_requests(count: int) -> None:
    vllm = FakeVllm(BLOCK)
    item = TokenSet([1, 2, 3], [[token] for token in range(count)])
    labels = [*range(count), 0]
    scored, chosen = ask(vllm, item, Questions([[1, 2], [3]], labels))
    check(item, scored)
    for prompt, values in zip([[1, 2], [3]], cast(list[FloatArray], chosen), strict=True):
        assert values.tolist() == pytest.approx([log_prob(prompt, label) for label in labels], abs=1e-6)


@pytest.mark.parametrize("ids", [[5], [*range(8)], [*range(11)]])
def test_an_echo_has_each_token_and_the_likeliest_everywhere(ids: list[int]) -> None:
    vllm = FakeVllm(BLOCK)
    for _ in range(2):
        everywhere, last = cast(list[EchoLogprobs], ask(vllm, Echo(ids, 3, True), Echo(ids, 2, False)))
        assert everywhere.token_logprobs.tolist() == expected(ids[:1], ids[1:])
        assert everywhere.top_ids.tolist() == [[t for t, _ in likeliest(ids[:k], 3)] for k in range(1, len(ids) + 1)]
        assert last.top_ids.tolist() == [[t for t, _ in likeliest(ids, 2)]]
        assert last.top_logprobs[0].tolist() == pytest.approx([v for _, v in likeliest(ids, 2)], abs=1e-6)
        assert not len(last.token_logprobs)


def test_the_reference_is_one_request_without_the_cache() -> None:
    vllm = FakeVllm(BLOCK)
    for _ in range(2):
        assert asyncio.run(score_without_cache([1, 2], [3, 4, 5, 6, 7], vllm.send)).tolist() == expected(
            [1, 2], [3, 4, 5, 6, 7]
        )
    assert vllm.asked == [VllmRequest([1, 2, 3, 4, 5, 6, 7], rows=5, cached=False)] * 2


def test_a_reply_without_what_was_asked_is_an_error() -> None:
    class Silent(FakeVllm):
        async def send(self, request: VllmRequest) -> Any:
            output = await super().send(request)
            output.outputs[0].logprobs = None
            return output

    with pytest.raises(EngineFailed, match="did not give"):
        ask(Silent(), TokenSet([1], [[2]]))


def test_rows_are_read_from_the_end_if_their_number_is_known() -> None:
    vllm, wanted = FakeVllm(BLOCK), VllmRequest([1, 2, 3, 4, 5, 6], rows=3)
    output = asyncio.run(vllm.send(wanted))
    assert computed_rows(wanted, output).ids[:, 0].tolist() == [4, 5, 6]
    output.prompt_logprobs.rows.pop(1)
    assert not len(computed_rows(wanted, output).ids)


def test_garbage_is_what_the_fake_gives_for_cached_rows() -> None:
    vllm, wanted = FakeVllm(BLOCK), VllmRequest([1, 2, 3, 4, 5, 6], rows=5)
    asyncio.run(vllm.send(wanted))
    again = asyncio.run(vllm.send(wanted))
    assert again.prompt_logprobs.logprobs[:4] == [GARBAGE] * 4
    assert computed_rows(wanted, again).ids[:, 0].tolist() == [6]


def test_only_rows_make_a_request_skip_the_cache() -> None:
    assert sampling_params(VllmRequest([1], next_ids=(2,)))["prompt_logprobs"] is None
    assert sampling_params(VllmRequest([1], next_ids=(2,)))["skip_reading_prefix_cache"] is False
    assert sampling_params(VllmRequest([1, 2], rows=1, cached=False))["skip_reading_prefix_cache"] is True


class OneDistribution(FakeVllm):
    """The same distribution, which adds up to 1, at every position."""

    def __init__(self, scale: float) -> None:
        super().__init__(BLOCK)
        values = scale * np.random.default_rng(0).normal(size=VOCABULARY)
        self.log_probs = values - np.logaddexp.reduce(values)

    def _prompt(self, request: VllmRequest, hit: int) -> Flat:
        told = np.float32(self.log_probs)
        best = np.argsort(-told)[: request.top].tolist()
        rows = [[(token, told[token]), *((t, told[t]) for t in best)] for token in request.ids[1:]]
        return Flat([[], *rows])


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0, 40.0])
@pytest.mark.parametrize(("top", "below"), [(10, VOCABULARY), (10, 200), (10, 40), (200, VOCABULARY)])
def test_a_distributions_rest_is_what_vllm_does_not_name(scale: float, top: int, below: int) -> None:
    """At the largest scale 1 - Σp is only rounding: the rest is still a probability, and within a third of a nat."""
    vllm = OneDistribution(scale)
    (rows,) = cast(list[list[FloatArray]], ask(vllm, NextTokens(TokenSet([1, 2], [[3, 4, 5], [6]]), top, below)))
    for ids, row in zip([[3, 4, 5], [6]], rows, strict=True):
        found = unpacked(row, len(ids))
        best = np.argsort(-vllm.log_probs[:below])[:top]
        rest = np.logaddexp.reduce(np.delete(vllm.log_probs, best))
        assert found.ids_T_K.tolist() == [best.tolist()] * len(ids)
        assert found.teacher.token_logprobs_T.tolist() == pytest.approx(vllm.log_probs[ids].tolist(), abs=1e-5)
        assert found.teacher.logprobs_T_K[0].tolist() == pytest.approx(vllm.log_probs[best].tolist(), abs=1e-5)
        assert found.teacher.rest_T.tolist() == pytest.approx([rest] * len(ids), abs=1e-4 if scale < 8 else 0.3)
    assert all(not one.cached and one.rows for one in vllm.asked)


def test_given_ids_are_never_asked_of_vllm() -> None:
    with pytest.raises(EngineFailed, match="given ids"):
        ask(FakeVllm(BLOCK), NextTokens(TokenSet([1], [[2]]), 1, VOCABULARY, [np.array([[5]])]))
