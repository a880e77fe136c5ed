"""The predicted memory of a forward pass against the measured one."""

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pad_teacher.engines.base import RowTooLarge
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.embedded.memory import peak_bytes
from pad_teacher.engines.embedded.rows import rows_of
from pad_teacher.engines.queries import TokenSet
from support.tiny import VOCABULARY, tiny_model

CPU = torch.device("cpu")


def assert_memory_is_predicted(engine: TransformersEngine, prompt: int, response: int, n: int, sets: int) -> None:
    def ids(count: int) -> list[int]:
        return random.choices(range(VOCABULARY), k=count)

    batch = [TokenSet(ids(prompt), [ids(response) for _ in range(n)]) for _ in range(sets)]
    predicted = engine.predicted_bytes([row for item in batch for row in rows_of(item)])
    assert predicted == pytest.approx(peak_bytes(lambda: engine.score(batch), CPU), rel=0.15)


def test_the_peak_does_not_count_what_was_freed() -> None:
    def work() -> torch.Tensor:
        first = torch.zeros(1000) + 1
        second = first * 2
        del first
        return second.view(10, 100) + torch.ones(10, 100)

    assert peak_bytes(work, CPU) == pytest.approx(3 * 4000, abs=4100)


@pytest.mark.parametrize("architecture", ["llama", "mixtral", "gpt2, learned positions", "mamba"])
@pytest.mark.parametrize("shape", [(100, 20, 4, 2), (30, 100, 3, 6), (10, 15, 8, 16)], ids=str)
@torch.inference_mode()
def test_a_forwards_memory_is_predicted_within_15_percent(
    architecture: str, shape: tuple[int, int, int, int]
) -> None:
    engine = TransformersEngine(tiny_model(architecture), max_context_tokens=256)
    engine.measure_memory()
    assert_memory_is_predicted(engine, *shape)


@torch.inference_mode()
def test_memory_of_a_large_vocabulary_is_predicted() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    engine = TransformersEngine(LlamaForCausalLM(LlamaConfig(vocab_size=50_000, **sizes)).eval())
    engine.measure_memory()
    assert_memory_is_predicted(engine, 100, 50, 4, 4)


def test_what_will_not_fit_is_split_or_refused_before_it_runs() -> None:
    model = tiny_model()
    engine = TransformersEngine(model)
    engine.measure_memory()
    sets = [TokenSet([1] * 40, [[seed] * 20]) for seed in range(6)]
    whole = engine.token_logprobs(sets)
    seen: list[int] = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    engine.memory_limit = engine.predicted_bytes(rows_of(sets[0])) + 1000
    for one, other in zip(engine.token_logprobs(sets), whole, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-5)
    assert max(seen) < 100
    engine.memory_limit = 1000
    seen.clear()
    with pytest.raises(RowTooLarge):
        engine.token_logprobs(sets)
    assert not seen
