"""The real vLLM next to the embedded engine, on tiny models of real architectures: ``make test-vllm``."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.queries import Echo, EchoLogprobs, FloatArray, Questions, TokenSet
from pad_teacher.scoring import golden_check
from pad_teacher.scoring.teacher import Teacher
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.processes import VLLM_OPTIONS
from support.tiny import FOR_VLLM, VOCABULARY, vllm_model

BLOCK = VLLM_OPTIONS["block_size"]


def random_ids(count: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=count)


def sets() -> list[TokenSet]:
    """What the cache could spoil: whole blocks, shared beginnings, one token, duplicates, many first tokens."""
    shared = random_ids(BLOCK + 3, 1)
    return [
        TokenSet(random_ids(12, 2), [random_ids(5, 3), random_ids(1, 4), random_ids(9, 5)]),
        TokenSet(random_ids(2 * BLOCK, 6), [shared, [*shared, 7], shared + random_ids(9, 8), shared, [9]]),
        TokenSet(random_ids(2 * BLOCK - 1, 10), [shared, random_ids(40, 11)]),
        TokenSet([5], [random_ids(3, 12), random_ids(100, 13)]),
        TokenSet(random_ids(70, 14), [[token, token] for token in range(140)]),
        TokenSet(random_ids(300, 15), [random_ids(200, k) for k in range(16, 20)]),
    ]


def vllm_engine(folder: Path, **options: Any) -> Any:
    from pad_teacher.engines.vllm.engine import VllmEngine

    limits = {"max_context_tokens": None, "max_batch_tokens": 256}  # so that long texts run in pieces
    return VllmEngine.load(str(folder), revision=None, dtype="float32", options=VLLM_OPTIONS | options, **limits)


@pytest.fixture(scope="module", params=FOR_VLLM)
def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    folder = tmp_path_factory.mktemp("model")
    vllm_model(request.param).save_pretrained(folder)
    vllm = vllm_engine(folder)
    yield vllm, TransformersEngine(vllm_model(request.param))
    vllm.close()


def means(scored: list[list[FloatArray]]) -> list[list[float]]:
    return [[float(values.mean()) for values in responses] for responses in scored]


def test_both_engines_give_the_same_scores_and_the_same_ranking(engines: tuple[Any, Any]) -> None:
    vllm, embedded = (means(engine.token_logprobs(sets())) for engine in engines)
    for one, other in zip(vllm, embedded, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
        assert np.argsort(one, stable=True).tolist() == np.argsort(other, stable=True).tolist()


def test_a_repeated_request_scores_the_same_with_any_cache(engines: tuple[Any, Any]) -> None:
    vllm, embedded = engines
    expected = embedded.token_logprobs(sets())
    runs = [vllm.token_logprobs(sets()) for _ in range(3)]
    runs.append([vllm.token_logprobs([item])[0] for item in sets()])
    runs.append(vllm.token_logprobs(sets() + sets())[: len(expected)])
    for run in runs:
        for responses, others in zip(run, expected, strict=True):
            for values, other in zip(responses, others, strict=True):
                assert values.dtype == np.float32
                assert values == pytest.approx(other, abs=2e-4)
    for again in runs[1:3]:
        assert np.concatenate(again[3]) == pytest.approx(np.concatenate(runs[0][3]), abs=1e-6)


def test_labels_and_echoes_agree_too_when_all_kinds_run_together(engines: tuple[Any, Any]) -> None:
    prompts = [random_ids(50, 1) + random_ids(20, k) for k in range(4)]
    queries = [
        *sets()[:2],
        Questions(prompts, list(range(200))),
        Echo(random_ids(3 * BLOCK, 2), 5, True),
        Echo(random_ids(3 * BLOCK, 2), 3, False),
        Echo([7], 1, True),
    ]
    for _ in range(2):
        vllm, embedded = (engine.score(queries) for engine in engines)
        for one, other in zip(vllm[:3], embedded[:3], strict=True):
            for values, others in zip(one, other, strict=True):
                assert values == pytest.approx(others, abs=2e-4)
        for one, other in zip(cast(list[EchoLogprobs], vllm[3:]), embedded[3:], strict=True):
            assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=2e-4)
            assert one.top_logprobs == pytest.approx(other.top_logprobs, abs=2e-4)
            assert (one.top_ids == other.top_ids).all()


def test_the_golden_score_passes_and_the_longest_text_is_scored(engines: tuple[Any, Any]) -> None:
    vllm, embedded = engines
    golden_check.check(Teacher.of("tiny", ChatEncoder.of(byte_tokenizer()), vllm))
    longest = TokenSet(random_ids(100, 1), [random_ids(vllm.max_context_tokens - 100, 2)])
    for item in (longest, Echo([*longest.prompt_ids, *longest.response_ids[0]], 1, False)):
        one, other = (engine.score([item])[0] for engine in (vllm, embedded))
        one, other = (answer if isinstance(answer, list) else [answer.top_logprobs] for answer in (one, other))
        assert one[0] == pytest.approx(other[0], abs=5e-4)


def test_two_processes_with_half_a_model_score_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_core, *others = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{one_core}|{(others or [one_core])[0]}")
    vllm_model("qwen2").save_pretrained(tmp_path)
    engine = vllm_engine(tmp_path, tensor_parallel_size=2)
    try:
        vllm = means(engine.token_logprobs(sets()))
    finally:
        engine.close()
    for one, other in zip(vllm, means(TransformersEngine(vllm_model("qwen2")).token_logprobs(sets())), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
