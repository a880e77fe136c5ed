"""The engine on vLLM, without vLLM: limits, scores, failures."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pad_teacher.engines.base import EngineFailed
from pad_teacher.engines.distributions import unpacked
from pad_teacher.engines.queries import FloatArray, NextTokens, TokenSet
from pad_teacher.engines.vllm import launch
from pad_teacher.engines.vllm.engine import VllmEngine
from support.fake_vllm import FakeVllm
from support.fakes import log_prob

SETS = [TokenSet([1, 2, 3], [[4, 5], [6]]), TokenSet([7], [[8, 9]])]


class FakeLlm:
    """An AsyncLLM around the fake replies; it can hang, fail and die."""

    def __init__(self, ranks: int = 1) -> None:
        self.vllm = FakeVllm()
        self.errored, self.hangs, self.failure = False, False, None
        self.asked = threading.Event()
        self.ranks: list[int | None] = []
        self.output_handler = None
        self.stopped = False
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(dtype="torch.bfloat16", max_model_len=258, get_vocab_size=lambda: 262),
            parallel_config=SimpleNamespace(data_parallel_size=ranks),
        )

    async def generate(self, ask: Any, _: Any, request_id: str, data_parallel_rank: int | None) -> AsyncIterator[Any]:
        self.ranks.append(data_parallel_rank)
        self.asked.set()
        if self.hangs:
            await asyncio.sleep(60)
        if self.failure:
            raise self.failure
        yield await self.vllm.send(ask)

    def shutdown(self, timeout: float) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "prompt_and_params", lambda request: (request, None))


def engine_of(llm: FakeLlm) -> Iterator[VllmEngine]:
    async def start() -> Any:
        return llm

    engine = VllmEngine(start(), "digest")
    yield engine
    engine.close()
    assert llm.stopped


@pytest.fixture
def llm() -> FakeLlm:
    return FakeLlm()


@pytest.fixture
def engine(llm: FakeLlm) -> Iterator[VllmEngine]:
    yield from engine_of(llm)


def test_properties_of_the_engine_come_from_vllms_config(engine: VllmEngine) -> None:
    # Two places less than vLLM's: the one after an echoed text, and the token that every request makes.
    assert (engine.dtype, engine.vocabulary, engine.max_context_tokens) == ("bfloat16", 262, 256)
    assert engine.digest() == "digest"
    assert engine.concurrent_batches > 1


def test_sets_are_scored_and_the_reference_agrees(engine: VllmEngine) -> None:
    scored = engine.token_logprobs(SETS)
    assert scored[0][1].tolist() == pytest.approx([log_prob([1, 2, 3], 6)])
    assert engine.reference_logprobs([1, 2, 3], [4, 5]).tolist() == pytest.approx(scored[0][0].tolist())


def test_a_small_vocabulary_leaves_the_engine_alive(engine: VllmEngine, llm: FakeLlm) -> None:
    """However few ids may be named, vLLM is asked for so many that the others cannot crowd them out."""
    (rows,) = engine.score([NextTokens(SETS[1], 5, 8)])
    named = unpacked(cast(list[FloatArray], rows)[0], 2).ids_T_K
    assert named.max() < 8
    assert max(one.top for one in llm.vllm.asked) <= VllmEngine.most_ids
    engine.check()


def test_what_vllm_raises_is_a_failed_engine(engine: VllmEngine, llm: FakeLlm) -> None:
    llm.failure = RuntimeError("EngineCore encountered an issue")
    with pytest.raises(EngineFailed, match="RuntimeError: EngineCore"):
        engine.score(SETS)


def test_a_running_batch_fails_soon_if_the_engine_dies(engine: VllmEngine, llm: FakeLlm) -> None:
    llm.hangs = True
    threading.Thread(target=lambda: llm.asked.wait(10) and setattr(llm, "errored", True)).start()
    with pytest.raises(EngineFailed, match="died"):
        engine.score(SETS)


def test_an_idle_engine_that_has_died_says_so(engine: VllmEngine, llm: FakeLlm) -> None:
    engine.check()
    llm.errored = True
    with pytest.raises(EngineFailed, match="died"):
        engine.check()


def test_all_requests_of_a_set_go_to_the_same_copy_of_the_model() -> None:
    llm = FakeLlm(ranks=2)
    (engine,) = [next(engines := engine_of(llm))]
    engine.score(SETS)
    assert sorted(llm.ranks, key=str) == [0, 0, 1, 1]
    list(engines)


def test_a_start_that_fails_is_raised_and_leaves_no_thread() -> None:
    async def start() -> Any:
        raise ValueError("no memory")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no memory"):
        VllmEngine(start(), "digest")
    for thread in threading.enumerate():
        if thread.name == "vllm":
            thread.join(5)
    assert threading.active_count() <= before
