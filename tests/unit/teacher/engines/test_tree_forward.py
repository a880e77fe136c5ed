"""Shared prefixes computed once change no number, for every architecture."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from pad_teacher.engines.embedded import packed_linear, tree_attention
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.queries import Questions, TokenSet
from support.tiny import ARCHITECTURES, PLAIN, SPARSE, VOCABULARY, oracle, tiny_model


def random_ids(count: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=count)


STEM, MIDDLE = random_ids(20, 1), random_ids(18, 2)
# Three levels: a beginning that both prompts share, a prompt, its responses; and a response said twice.
SETS = [
    TokenSet(STEM + random_ids(2, 3), [random_ids(7, 4), random_ids(1, 5), random_ids(7, 4)]),
    TokenSet(STEM + MIDDLE, [random_ids(9, 6), random_ids(4, 7)]),
]


def plain_logprobs(model: Any, prompt: list[int], response: list[int]) -> list[float]:
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0].tolist()


LogProbs = Callable[[Any, list[int], list[int]], list[float]]


def assert_scores_are(engine: TransformersEngine, model: Any, expected: LogProbs) -> None:
    for item, arrays in zip(SETS, engine.token_logprobs(SETS), strict=True):
        for ids, values in zip(item.response_ids, arrays, strict=True):
            assert values == pytest.approx(expected(model, item.prompt_ids, ids), abs=3e-5)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if "long rope" not in name])
def test_shared_beginnings_change_no_number_of(architecture: str) -> None:
    engine = TransformersEngine(tiny_model(architecture))
    assert engine.plain_because is None
    assert_scores_are(engine, tiny_model(architecture), oracle)


@pytest.mark.parametrize("architecture", SPARSE)
def test_sinks_experts_and_small_values_are_as_in_plain_models(architecture: str) -> None:
    engine = TransformersEngine(tiny_model(architecture))
    assert engine.plain_because is None
    assert_scores_are(engine, tiny_model(architecture), plain_logprobs)


@pytest.mark.parametrize("architecture", PLAIN)
def test_a_model_that_cannot_be_packed_runs_by_row_and_says_why(architecture: str) -> None:
    engine = TransformersEngine(tiny_model(architecture), max_context_tokens=256)
    assert engine.plain_because
    assert_scores_are(engine, tiny_model(architecture), plain_logprobs)


def test_a_window_that_layers_keep_to_themselves_is_noticed() -> None:
    model = tiny_model()
    model.config.sliding_window = 8  # Llama's layers pass no window on
    assert "windows" in str(TransformersEngine(model).plain_because)


def tokens_run(query: TokenSet | Questions) -> int:
    """Tokens that the model runs on to answer a query."""
    model, seen = tiny_model(), []
    engine = TransformersEngine(model)
    model.model.embed_tokens.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    engine.score([query])
    return sum(seen)


def test_each_prompt_token_and_each_response_token_runs_once() -> None:
    item = TokenSet(random_ids(40, 1), [random_ids(10, seed) for seed in range(2, 6)])
    assert tokens_run(item) == 40 + 4 * 9


def test_orders_of_a_question_share_all_before_the_options() -> None:
    stem, options = random_ids(40, 1), [random_ids(20, seed) for seed in range(2, 5)]
    orders = [stem + [token for k in range(3) for token in options[(k + first) % 3]] for first in range(3)]
    assert tokens_run(Questions(orders, [1, 2, 3])) == 40 + 3 * 60


def test_chunks_of_attention_scores_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(tiny_model("gemma2, soft caps and sliding window"))
    whole = engine.token_logprobs(SETS)
    monkeypatch.setattr(tree_attention, "SCORES", 100)
    monkeypatch.setattr(tree_attention, "QUERIES", 3)
    for one, other in zip(engine.token_logprobs(SETS), whole, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, abs=1e-5)


def test_a_packed_layer_keeps_its_weight_to_the_bit() -> None:
    linear = torch.nn.Linear(33, 17)
    packed, inputs = packed_linear.PackedLinear(linear), torch.randn(5, 33)
    assert torch.equal(packed.weight, linear.weight)
    assert np.allclose(packed(inputs).detach(), linear(inputs).detach(), atol=1e-6)
    with packed_linear.unpacked():
        assert torch.equal(packed(inputs), linear(inputs))


def test_all_but_the_first_layers_of_a_deep_model_are_packed() -> None:
    config = tiny_model().config
    config.num_hidden_layers = 30
    decoder = LlamaForCausalLM(config).model
    packed_linear.pack_linears(decoder)
    kinds = [{type(layer.mlp.down_proj), type(layer.self_attn.q_proj)} for layer in decoder.layers]
    assert kinds == [{torch.nn.Linear}] * 2 + [{packed_linear.PackedLinear}] * 28
