"""The embedded engine against float64 computed without the project's code."""

import dataclasses
import random
from typing import Any, cast

import numpy as np
import pytest
import torch

from pad_teacher.engines.base import EngineFailed, RowTooLarge
from pad_teacher.engines.embedded import output_head
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.queries import Echo, EchoLogprobs, TokenSet
from pad_teacher.scoring import golden_check
from pad_teacher.scoring.teacher import Teacher
from pad_torch.logit_transform import LogitTransform
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.tiny import ARCHITECTURES, VOCABULARY, oracle, tiny_model


def random_ids(count: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=count)


def echo(engine: TransformersEngine, *texts: Echo) -> list[EchoLogprobs]:
    return cast(list[EchoLogprobs], engine.score(texts))


SETS = [
    TokenSet(random_ids(12, 1), [random_ids(5, 2), random_ids(1, 3), random_ids(9, 4)]),
    TokenSet(random_ids(3, 5), [random_ids(2, 6)]),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_token_logprobs_equal_float64_for(architecture: str) -> None:
    model = tiny_model(architecture)
    scored = TransformersEngine(tiny_model(architecture)).token_logprobs(SETS)
    for item, arrays in zip(SETS, scored, strict=True):
        for ids, values in zip(item.response_ids, arrays, strict=True):
            assert values.dtype == np.float32
            assert values == pytest.approx(oracle(model, item.prompt_ids, ids), abs=2e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_label_logprobs_equal_float64_for(architecture: str) -> None:
    model = tiny_model(architecture)
    prompts, labels = [random_ids(7, 8), random_ids(20, 9)], [[1, 2, 3], [4, 5]]
    scored = TransformersEngine(tiny_model(architecture)).label_logprobs(prompts, labels)
    for prompt, wanted, values in zip(prompts, labels, scored, strict=True):
        assert values == pytest.approx([oracle(model, prompt, [label])[0] for label in wanted], abs=2e-5)


def test_a_score_does_not_depend_on_what_it_is_batched_with() -> None:
    engine = TransformersEngine(tiny_model(), max_forward_tokens=64)
    others = [TokenSet(random_ids(k, k), [random_ids(30 - k, 50 + k)] * 3) for k in range(1, 25)]
    alone = [engine.token_logprobs([item])[0] for item in SETS]
    among = engine.token_logprobs([*others[:12], SETS[0], *others[12:], SETS[1]])
    for one, other in zip(alone, [among[12], among[-1]], strict=True):
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, abs=1e-5)


def test_chunks_of_rows_and_vocabulary_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = "gemma2, soft caps and sliding window"
    text = Echo(random_ids(20, 3), top=4, everywhere=True)
    whole = echo(TransformersEngine(tiny_model(architecture)), text)[0]
    monkeypatch.setattr(output_head, "ROWS", 3)
    monkeypatch.setattr(output_head, "COLUMNS_PACKED", 50)
    chunked = echo(TransformersEngine(tiny_model(architecture)), text)[0]
    assert chunked.token_logprobs == pytest.approx(whole.token_logprobs, abs=1e-5)
    assert chunked.top_logprobs == pytest.approx(whole.top_logprobs, abs=1e-5)
    assert (chunked.top_ids == whole.top_ids).all()


def test_logits_are_never_held_for_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = output_head.OutputHead.logits

    def record(self: Any, hidden: torch.Tensor, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        seen.append(len(hidden) * (stop - start))
        return original(self, hidden, start, stop, weight)

    monkeypatch.setattr(output_head.OutputHead, "logits", record)
    monkeypatch.setattr(output_head, "ROWS", 8)
    monkeypatch.setattr(output_head, "COLUMNS_PACKED", 100)
    TransformersEngine(tiny_model()).token_logprobs(SETS)
    assert max(seen) <= 800


def test_echo_names_the_likeliest_tokens_of_every_position() -> None:
    model = tiny_model()
    ids = random_ids(6, 7)
    everywhere, last = echo(TransformersEngine(tiny_model()), Echo(ids, 2, True), Echo(ids, 1, False))
    with torch.inference_mode():
        log_probs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    assert everywhere.token_logprobs == pytest.approx([log_probs[k, ids[k + 1]].item() for k in range(5)], abs=1e-5)
    assert (everywhere.top_ids == log_probs.topk(2).indices.numpy()).all()
    assert last.top_ids.tolist() == [[log_probs[-1].argmax().item()]]
    assert not len(last.token_logprobs)


def test_a_batch_that_does_not_fit_is_split_until_it_does() -> None:
    model = tiny_model()
    engine = TransformersEngine(model)
    whole, sizes = engine.token_logprobs(SETS), []

    def small_device(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        sizes.append(inputs["input_ids"].numel())
        if sizes[-1] > 20:  # the longest row alone
            raise torch.OutOfMemoryError("too much")

    model.model.register_forward_pre_hook(small_device, with_kwargs=True)
    for one, other in zip(engine.token_logprobs(SETS), whole, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, abs=1e-5)
    assert min(sizes) <= 20 < max(sizes)


@pytest.mark.parametrize(
    ("error", "raised"),
    [("DefaultCPUAllocator: can't allocate memory", RowTooLarge), ("device-side assert", EngineFailed)],
)
def test_one_row_too_large_is_told_apart_from_a_broken_engine(error: str, raised: type[Exception]) -> None:
    model = tiny_model()
    engine = TransformersEngine(model)

    def fail(*_: Any) -> None:
        raise RuntimeError(error)

    model.model.register_forward_pre_hook(fail)
    with pytest.raises(raised):
        engine.token_logprobs(SETS)


def test_sixteen_bit_weights_still_give_float32_log_softmax() -> None:
    model = tiny_model().bfloat16()
    values = np.concatenate(TransformersEngine(model).token_logprobs(SETS)[0])
    sixteen_bit = torch.tensor(values).bfloat16().float().numpy()
    assert not np.allclose(values, sixteen_bit, atol=1e-5)


def test_the_digest_changes_with_any_weight_and_with_the_dtype() -> None:
    digests = {TransformersEngine(tiny_model()).digest(), TransformersEngine(tiny_model()).digest()}
    assert len(digests) == 1
    model = tiny_model()
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] += 1e-3
    digests.add(TransformersEngine(model).digest())
    digests.add(TransformersEngine(tiny_model().bfloat16()).digest())
    assert len(digests) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_golden_score_passes_for_a_sound_engine(architecture: str) -> None:
    engine = TransformersEngine(tiny_model(architecture))
    assert golden_check.check(Teacher.of("tiny", ChatEncoder.of(byte_tokenizer()), engine)) < 1e-4


def test_the_golden_score_refuses_wrong_logits() -> None:
    engine = TransformersEngine(tiny_model("granite, scaled logits"))
    teacher = Teacher.of("tiny", ChatEncoder.of(byte_tokenizer()), engine)
    engine.output_head = dataclasses.replace(engine.output_head, transform=LogitTransform(1.0, None))
    with pytest.raises(golden_check.GoldenMismatch, match="nats a token"):
        golden_check.check(teacher)


def test_the_golden_score_refuses_wrong_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(tiny_model())
    teacher = Teacher.of("tiny", ChatEncoder.of(byte_tokenizer()), engine)
    original = engine.label_logprobs
    monkeypatch.setattr(engine, "label_logprobs", lambda *call: [values + 0.01 for values in original(*call)])
    with pytest.raises(golden_check.GoldenMismatch, match="nats a token"):
        golden_check.check(teacher)


def test_the_fingerprint_changes_with_what_only_the_config_says() -> None:
    first = TransformersEngine(tiny_model()).digest()
    model = tiny_model()
    model.config.rope_parameters["rope_theta"] *= 2
    assert TransformersEngine(model).digest() != first


def test_long_rope_scores_do_not_depend_on_longer_neighbours() -> None:
    engine = TransformersEngine(tiny_model("phi3, long rope"))
    short, long = SETS[0], TokenSet(random_ids(60, 1), [random_ids(9, 2)])
    alone, among = engine.token_logprobs([short])[0], engine.token_logprobs([long, short, long])[1]
    for a, b in zip(alone, among, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_model_whose_scores_depend_on_others_is_refused() -> None:
    model = tiny_model()
    model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0}
    with pytest.raises(ValueError, match="dynamic"):
        TransformersEngine(model)


def test_the_golden_score_refuses_numbers_that_are_not_finite() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    teacher = Teacher.of("tiny", ChatEncoder.of(byte_tokenizer()), TransformersEngine(model))
    with pytest.raises(golden_check.GoldenMismatch, match="not finite"):
        golden_check.check(teacher)
