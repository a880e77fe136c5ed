"""Sampling is plain, seeded, and leaves no trace."""

import copy
from typing import Any

import pytest
import torch

from pad_student.errors import SamplingError
from pad_student.sampling.generate import responses_with_text, sample_responses
from pad_wire import Response
from pad_wire.chat import ChatEncoder
from support.chat_kinds import tokenizer_of
from support.tiny_student import tiny_encoder, tiny_model

ENCODER = tiny_encoder()
PROMPTS = ["hi", "what is a much longer question?"]


def sample(model: Any, prompts: Any = PROMPTS, **changes: Any) -> Any:
    options = {"n": 3, "temperature": 1.0, "max_new_tokens": 12, "seed": 1, "keys": ["a", "b"], **changes}
    return sample_responses(model, ENCODER, prompts, **options)


def test_each_prompt_gets_n_responses() -> None:
    responses = sample(tiny_model())
    assert [len(each) for each in responses] == [3, 3]


def test_responses_depend_on_the_seed_and_the_keys() -> None:
    model = tiny_model()
    assert sample(model) == sample(model)
    assert sample(model) != sample(model, seed=2)
    assert sample(model) != sample(model, keys=["a", "c"])


def test_the_global_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    sample(tiny_model())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_generation_settings_are_restored(training: Any) -> None:
    model = tiny_model().train(training)
    model.model.norm.train(not training)
    own = copy.deepcopy(model.generation_config.to_dict())
    sample(model)
    assert model.training is training
    assert model.model.norm.training is not training
    assert model.generation_config.to_dict() == own


def test_the_models_own_sampling_settings_are_not_used() -> None:
    plain, fancy = tiny_model(), tiny_model()
    fancy.generation_config.top_k = 1
    fancy.generation_config.repetition_penalty = 5.0
    assert sample(plain) == sample(fancy)


def test_it_works_while_training_with_gradient_checkpointing() -> None:
    model = tiny_model().train()
    model.gradient_checkpointing_enable()
    model.config.use_cache = False
    assert sample(model) == sample(tiny_model())


def test_finished_means_that_an_end_token_was_produced() -> None:
    model = tiny_model()
    responses = [each for group in sample(model, ["hi"] * 100, n=1, max_new_tokens=1, keys=[]) for each in group]
    assert {each.finished for each in responses} == {True, False}
    assert all(each.finished is (each.text == "") for each in responses)


def test_end_tokens_that_the_model_declares_end_a_response_too() -> None:
    model, c = tiny_model(), ENCODER.response_ids(["c"], [False])[0][0]
    model.generation_config.eos_token_id = [c]
    responses = [each for group in sample(model, n=50) for each in group]
    assert not any("c" in each.text for each in responses)
    assert any(each.finished for each in responses)


def test_padding_on_the_left_does_not_change_greedy_responses() -> None:
    model = tiny_model()
    together = sample(model, n=1, temperature=0)
    alone = [sample(model, [prompt], n=1, temperature=0)[0] for prompt in PROMPTS]
    assert together == alone


def test_responses_follow_the_models_own_distribution() -> None:
    model, draws = tiny_model(), 4000
    with torch.no_grad():
        model.lm_head.weight *= 20  # far from uniform
        probabilities = model(torch.tensor([ENCODER.prompt_ids("hi")])).logits[0, -1].softmax(-1)
    drawn = sample(model, ["hi"] * draws, n=1, max_new_tokens=1, keys=[])
    texts = [group[0].text for group in drawn if group]
    kept = probabilities[4:].sum()  # a special token alone has no text to keep; the end token does not need any
    for character in "aeiou":
        expected = probabilities[ENCODER.response_ids([character], [False])[0][0]] / kept
        assert abs(texts.count(character) / len(texts) - expected) < 0.03


def test_a_prompt_that_leaves_no_room_gets_no_responses() -> None:
    assert [len(each) for each in sample(tiny_model(context=24), max_new_tokens=12)] == [3, 0]


def test_an_unfinished_response_without_text_is_never_returned() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token is as likely, five of them special
    for group in sample(model, PROMPTS * 8, n=1, max_new_tokens=1, keys=list("abcdefghijklmnop")):
        assert all(each.text or each.finished for each in group)


def test_temperature_0_has_one_response() -> None:
    with pytest.raises(SamplingError, match="temperature 0"):
        sample(tiny_model(), temperature=0)


def test_a_batch_too_large_for_the_gpu_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    generate, sizes = model.generate, []

    def limited(input_ids: Any, **options: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError
        return generate(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", limited)
    assert [len(each) for each in sample(model)] == [3, 3]
    assert sizes == [2, 1, 1]


CUT = {  # text whose last bytes may be missing, and what is left of it
    "an emoji, one byte": ("so 🙂", 3, "so "),
    "an emoji, three bytes": ("so 🙂", 1, "so "),
    "a kana": ("はい", 1, "は"),
    "nothing missing": ("はい", 0, "はい"),
    "the very character": ("a\ufffd", 0, "a\ufffd"),
    "nothing but a part": ("🙂", 2, ""),
}


@pytest.mark.parametrize("kind", ["byte level", "prepend"])
@pytest.mark.parametrize(("text", "missing", "left"), CUT.values(), ids=CUT)
def test_a_character_that_was_cut_is_left_off(kind: str, text: str, missing: int, left: str) -> None:
    encoder = ChatEncoder.of(tokenizer_of(kind, "chatml"))
    (ids,) = encoder.response_ids([text], [False])
    row = ids[: len(ids) - missing]
    tries: list[int] = []

    def generate(todo: list[int], retry: int) -> list[list[list[int]]]:
        tries.append(retry)
        return [[row]] * len(todo)

    found = responses_with_text(encoder, {encoder.end_of_turn}, [0], 2, generate)
    assert found == ({0: [Response(text=left, finished=False)]} if left else {})
    assert tries == ([0] if left else [0, 1])


def test_an_ended_response_keeps_what_was_written() -> None:
    encoder = ChatEncoder.of(tokenizer_of("byte level", "chatml"))
    row = [*encoder.response_ids(["🙂"], [False])[0][:-1], encoder.end_of_turn]
    found = responses_with_text(encoder, {encoder.end_of_turn}, [0], 1, lambda todo, _: [[row]] * len(todo))
    assert found == {0: [Response(text="\ufffd", finished=True, ids=row)]}
