"""Distributions over the next token: the embedded engine against float64, and their rows."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from pad_teacher.engines.distributions import Distributions, packed, unpacked, with_reference
from pad_teacher.engines.embedded import output_head
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.embedded.memory import peak_bytes
from pad_teacher.engines.embedded.rows import rows_of
from pad_teacher.engines.queries import Echo, FloatArray, NextTokens, TokenSet
from support.tiny import VOCABULARY, tiny_model

PROMPT, RESPONSES = list(range(20, 40)), [[5, 6, 7, 8], [200], [9, 8, 7, 6, 5, 4, 3]]
TOKENS = TokenSet(PROMPT, RESPONSES)
ALL = VOCABULARY


def exact(model: Any, response: list[int]) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] in float64, eager attention, the model's own logits."""
    exactly = model.double()
    exactly.set_attn_implementation("eager")
    with torch.inference_mode():
        logits = exactly(input_ids=torch.tensor([PROMPT + response])).logits[0, len(PROMPT) - 1 : -1]
    return logits.log_softmax(-1)


def asked(engine: TransformersEngine, **how: Any) -> list[Distributions]:
    (rows,) = cast(list[list[FloatArray]], engine.score([NextTokens(TOKENS, **({"below": ALL} | how))]))
    return [unpacked(row, len(ids)) for row, ids in zip(rows, RESPONSES, strict=True)]


def assert_equal_to(log_probs: torch.Tensor, response: list[int], found: Distributions) -> None:
    ids = torch.from_numpy(found.ids_T_K.astype(np.int64))
    own = log_probs.gather(-1, torch.tensor(response)[:, None])[:, 0]
    rest = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    assert found.teacher.token_logprobs_T == pytest.approx(own.numpy(), abs=2e-5)
    assert found.teacher.logprobs_T_K == pytest.approx(log_probs.gather(-1, ids).numpy(), abs=2e-5)
    assert found.teacher.rest_T == pytest.approx(rest.numpy(), abs=2e-5)
    total = np.exp(found.teacher.logprobs_T_K.astype(np.float64)).sum(-1) + np.exp(found.teacher.rest_T)
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2, soft caps and sliding window", "gpt2, learned positions"])
@pytest.mark.parametrize("columns", [8192, 50])
def test_the_likeliest_tokens_and_the_rest_equal_float64(
    architecture: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_head, "ROWS", 3)
    monkeypatch.setattr(output_head, "COLUMNS_PACKED", columns)
    for response, found in zip(RESPONSES, asked(TransformersEngine(tiny_model(architecture)), top=60), strict=True):
        log_probs = exact(tiny_model(architecture), response)
        assert (found.ids_T_K == log_probs.topk(60).indices.numpy()).all()
        assert_equal_to(log_probs, response, found)


@pytest.mark.parametrize("columns", [8192, 50])
def test_the_ids_asked_for_and_the_rest_equal_float64(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_head, "COLUMNS_PACKED", columns)
    draw = np.random.default_rng(0)
    at = [np.stack([draw.permutation(VOCABULARY)[:55] for _ in ids]) for ids in RESPONSES]
    at[0][0] = np.arange(50, 105)  # all of a chunk of the vocabulary
    for response, ids, found in zip(
        RESPONSES, at, asked(TransformersEngine(tiny_model()), top=55, at=at), strict=True
    ):
        assert (found.ids_T_K == ids).all()
        assert_equal_to(exact(tiny_model(), response), response, found)


def test_ids_past_a_limit_are_a_part_of_the_rest() -> None:
    found = asked(TransformersEngine(tiny_model()), top=10, below=100)
    for response, each in zip(RESPONSES, found, strict=True):
        log_probs = exact(tiny_model(), response)
        assert (each.ids_T_K == log_probs[:, :100].topk(10).indices.numpy()).all()
        assert_equal_to(log_probs, response, each)


def test_a_sure_teachers_rest_has_all_its_digits() -> None:
    """ln(1 - Σp) in float32 is -inf here."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight *= 30
    found = asked(TransformersEngine(model), top=5)
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight *= 30
    assert min(each.teacher.rest_T.min() for each in found) < -20
    for response, each in zip(RESPONSES, found, strict=True):
        log_probs = exact(model, response)
        rest = log_probs.scatter(-1, torch.from_numpy(each.ids_T_K.astype(np.int64)), -torch.inf).logsumexp(-1)
        assert each.teacher.rest_T == pytest.approx(rest.numpy(), abs=1e-3)


def test_queries_of_all_kinds_share_a_batch() -> None:
    engine = TransformersEngine(tiny_model())
    at = [np.arange(6)[None].repeat(len(ids), 0) for ids in RESPONSES]
    queries = [
        NextTokens(TOKENS, 7, ALL),
        TOKENS,
        NextTokens(TOKENS, 3, ALL),
        Echo(PROMPT, 2, True),
        NextTokens(TOKENS, 6, ALL, at),
    ]
    together = engine.score(queries)
    for query, answer in zip(queries, together, strict=True):
        (alone,) = engine.score([query])
        if isinstance(answer, list):
            for one, other in zip(answer, cast(list[FloatArray], alone), strict=True):
                assert one == pytest.approx(other, abs=1e-5)


def test_a_narrow_row_is_that_of_a_smaller_k() -> None:
    engine = TransformersEngine(tiny_model())
    for wide, narrow in zip(asked(engine, top=40), asked(engine, top=7), strict=True):
        assert (wide.ids_T_K[:, :7] == narrow.ids_T_K).all()
        cut = wide.teacher.narrowed(7)
        assert cut.logprobs_T_K == pytest.approx(narrow.teacher.logprobs_T_K, abs=1e-5)
        assert cut.rest_T == pytest.approx(narrow.teacher.rest_T, abs=1e-5)


def test_a_row_keeps_both_models() -> None:
    def part(*shape: int) -> Any:
        return -np.random.default_rng(shape).random(shape, np.float32)

    ids = np.arange(12).reshape(3, 4)
    teacher, reference = (packed(part(3), part(3) - k, ids, part(3, 4) - k) for k in (0, 1))
    found = unpacked(with_reference(teacher, reference, 3), 3, reference=True)
    assert found.ids_T_K.tolist() == ids.tolist()
    for side, row in ((found.teacher, teacher), (found.reference, reference)):
        assert side is not None
        alone = unpacked(row, 3).teacher
        assert (side.logprobs_T_K == alone.logprobs_T_K).all()
        assert (side.rest_T == alone.rest_T).all()
        assert (side.token_logprobs_T == alone.token_logprobs_T).all()


def test_the_memory_of_many_ids_is_predicted() -> None:
    engine = TransformersEngine(tiny_model())
    engine.measure_memory()
    tokens = TokenSet(list(range(30)), [[k % 200 for k in range(j, j + 150)] for j in range(8)])
    query = NextTokens(tokens, 200, ALL)
    predicted = engine.predicted_bytes(rows_of(query))
    with torch.inference_mode():
        held = peak_bytes(lambda: engine.score([query]), torch.device("cpu"))
    assert held <= 1.15 * predicted
    assert predicted <= 2 * held
