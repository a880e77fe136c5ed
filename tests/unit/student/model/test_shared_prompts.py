"""Prompts computed once for all their responses: the same numbers and gradients, in less memory."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pad_student.model.logprobs import (
    Batch,
    collate,
    response_log_likelihoods,
    shared_prompts,
    use_defined_attention,
    why_not_shared,
)
from pad_student.model.packing import pack, packed_passes, padded_passes, rows_of
from pad_student.preference.losses import ppd
from pad_student.training.trainer import PADTrainer
from support.fakes import byte_tokenizer
from support.student_runs import config, scored_sets
from support.tiny import ARCHITECTURES, PLAIN, SPARSE, VOCABULARY, tiny_model

PROMPTS = [list(range(20, 31)), [7, 8, 9]]
LENGTHS = [(5, 1, 12), (3, 9, 2)]  # past the windows of 8, and a response of one token
TEACHER = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.5, -0.2]], dtype=torch.float64)
PARTS = (None, 1, 17, 30)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms, softmaxes and rotations ask for float32 whatever the model is in: here they get float64."""

    def in_double(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs = {key: torch.float64 if each is torch.float32 else each for key, each in kwargs.items()}
            return function(*(torch.float64 if each is torch.float32 else each for each in args), **kwargs)

        return call

    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch.Tensor, "to", in_double(torch.Tensor.to))
    monkeypatch.setattr(torch.nn.functional, "softmax", in_double(torch.nn.functional.softmax))


in_float64 = pytest.mark.usefixtures("exact")


def groups() -> Batch:
    draw = iter(torch.randint(VOCABULARY, (99,), generator=torch.Generator().manual_seed(1)).tolist())
    rows = [
        (prompt, [next(draw) for _ in range(length)])
        for prompt, lengths in zip(PROMPTS, LENGTHS, strict=True)
        for length in lengths
    ]
    return collate([prompt for prompt, _ in rows], [response for _, response in rows], pad_id=0)


def student(name: str, dtype: torch.dtype = torch.float64) -> Any:
    model = tiny_model(name).to(dtype)
    use_defined_attention(model)
    return model


def preference_loss(log_likelihood: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return ppd(TEACHER, (2 * log_likelihood / tokens).view(2, 3)).mean()


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain_loop(model: Any, batch: Batch) -> torch.Tensor:
    """Each row alone: its own prompt, full logits, a softmax of its own."""
    sums = []
    for ids, attention, response in zip(*batch, strict=True):
        length = int(attention.sum())
        log_p = model(input_ids=ids[None, :length]).logits[0].log_softmax(-1)
        sums.append(sum(log_p[t - 1, ids[t]] for t in range(length) if response[t]))
    return torch.stack(sums)


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], most: float) -> None:
    assert found.keys() == expected.keys()
    size = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= most * size, name


def ours(model: Any, batch: Batch, **options: Any) -> dict[str, torch.Tensor]:
    found = response_log_likelihoods(model, *batch, **options)
    return gradients(model, preference_loss(found.log_likelihood, found.tokens))


@in_float64
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_values_and_gradients_are_those_of_a_plain_loop(name: str) -> None:
    model, batch = student(name), groups()
    assert why_not_shared(model) is None
    expected = plain_loop(model, batch)
    expected_gradients = gradients(model, preference_loss(expected, batch.response_mask.sum(1)))
    for most in PARTS:
        for shared in (True, False):
            found = response_log_likelihoods(model, *batch, shared=shared, max_tokens=most)
            assert torch.allclose(found.log_likelihood, expected, atol=1e-9)
            found_gradients = gradients(model, preference_loss(found.log_likelihood, found.tokens))
            assert_same_gradients(found_gradients, expected_gradients, 1e-10)


@pytest.mark.parametrize("name", SPARSE)
def test_experts_sinks_and_uneven_heads_agree_in_float32(name: str) -> None:
    model, batch = student(name, torch.float32), groups()
    assert why_not_shared(model) is None
    expected = ours(model, batch)
    assert_same_gradients(ours(model, batch, shared=True), expected, 2e-3)


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_that_cannot_share_says_why_and_is_unchanged(name: str) -> None:
    model = tiny_model(name).train()
    before = model.config._attn_implementation
    assert why_not_shared(model)
    assert model.config._attn_implementation == before
    assert model.training


@in_float64
@pytest.mark.parametrize("parts", PARTS)
def test_a_model_that_cannot_share_is_still_trained_in_parts(parts: int | None) -> None:
    model, batch = tiny_model("bloom").double(), groups()
    expected = gradients(model, preference_loss(plain_loop(model, batch), batch.response_mask.sum(1)))
    assert_same_gradients(ours(model, batch, max_tokens=parts), expected, 1e-10)


@in_float64
@pytest.mark.parametrize("name", ["llama", "gemma2, soft caps and sliding window"])
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("parts", [None, 17])
def test_gradient_checkpointing_gives_the_same_gradients(name: str, reentrant: bool, parts: int | None) -> None:
    model, batch = student(name).train(), groups()
    expected = ours(model, batch, shared=True)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    with shared_prompts(model):
        assert_same_gradients(ours(model, batch, shared=True, max_tokens=parts), expected, 1e-10)


def test_a_gradient_outside_shared_prompts_is_an_error() -> None:
    model, batch = student("llama").train(), groups()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(Exception, match="recomputed"):
        ours(model, batch, shared=True)


@in_float64
def test_what_stands_beside_a_response_does_not_change_it() -> None:
    model, batch = student("qwen2"), groups()
    together = response_log_likelihoods(model, *batch, shared=True).log_likelihood
    wider = Batch(*(torch.nn.functional.pad(part, (0, 9)) for part in batch))
    assert torch.equal(response_log_likelihoods(model, *wider, shared=True).log_likelihood, together)
    order = [4, 0, 5, 2, 3, 1]
    mixed = Batch(*(part[order] for part in batch))
    found = response_log_likelihoods(model, *mixed, shared=True).log_likelihood
    assert torch.allclose(found, together[order], atol=1e-10)


def test_dropout_is_drawn_again_alike_when_a_part_is_run_again() -> None:
    model, batch = student("gpt2, learned positions").train(), groups()
    per_part = {}
    for most in (10**6, 17):
        torch.manual_seed(0)
        per_part[most] = ours(model, batch, shared=True, max_tokens=most)
    assert all(gradient.isfinite().all() for found in per_part.values() for gradient in found.values())
    torch.manual_seed(0)
    assert_same_gradients(ours(model, batch, shared=True, max_tokens=17), per_part[17], 0.0)


def test_a_prompt_stands_once_and_positions_restart_behind_it() -> None:
    batch = collate([[5, 6], [5, 6], [9]], [[1, 2, 3], [4], [7, 8]], pad_id=0)
    packed = pack(rows_of(batch.input_ids, batch.response_mask), torch.device("cpu"))
    assert packed.ids_T.tolist() == [5, 6, 1, 2, 9, 7]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 0, 1]
    assert packed.predictor_K.tolist() == [1, 2, 3, 1, 4, 5]
    assert packed.target_K.tolist() == [1, 2, 3, 4, 7, 8]


def test_parts_hold_no_more_than_they_may_and_every_row_once() -> None:
    rows = rows_of(groups().input_ids, groups().response_mask)
    for most in (None, 1, 17, 30, 1000):
        for divide in (packed_passes, padded_passes):
            parts = list(divide(rows, most))
            assert sorted(number for part in parts for number in part) == list(range(6))
        for part in packed_passes(rows, most):
            size = len(pack([rows[number] for number in part], torch.device("cpu")).ids_T)
            assert most is None or len(part) == 1 or size <= most
        for part in padded_passes(rows, most):
            size = len(part) * max(rows[number].length for number in part)
            assert most is None or len(part) == 1 or size <= most
    longest = max(rows, key=lambda row: row.length)
    assert [rows[number] for number in next(padded_passes(rows, 17))] == [longest]


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        made = [each.numel() for each in tree_leaves(found) if isinstance(each, torch.Tensor)]
        self.elements = max(self.elements, *made, 0)
        return found


def largest(model: Any, batch: Batch, **options: Any) -> int:
    with Largest() as seen:
        ours(model, batch, **options)
    return seen.elements


def test_no_tensor_of_an_update_is_as_large_as_all_logits() -> None:
    model, batch = student("llama"), groups()
    predictions, biggest_weight = int(batch.response_mask.sum()), VOCABULARY * 32
    bound = max(4 * VOCABULARY, biggest_weight)
    assert largest(model, batch, shared=True, chunk_size=4) <= bound < predictions * VOCABULARY * 1.05
    assert largest(model, batch, shared=True, chunk_size=1000) >= predictions * VOCABULARY


def test_one_long_response_does_not_cost_what_n_long_ones_would() -> None:
    model = student("llama")
    prompt, short, long = [1, 2, 3], [4, 5], [6] * 120
    batch = collate([prompt] * 6, [short, short, long, short, short, short], pad_id=0)
    loose = largest_state(model, batch)
    assert loose == largest_state(model, batch, shared=True, max_tokens=130) == 3 + 5 * 1 + 119


def largest_state(model: Any, batch: Batch, shared: bool = True, max_tokens: int | None = None) -> int:
    """The most tokens that the body runs on at once."""
    seen: list[int] = []
    hook = model.model.norm.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[:2].numel()))
    response_log_likelihoods(model, *batch, shared=shared, max_tokens=max_tokens).log_likelihood.sum().backward()
    hook.remove()
    return max(seen)


def held_for_the_gradient(model: Any, batch: Batch, most: int | None) -> int:
    """Elements that a forward pass keeps, besides weights."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(0 if tensor.data_ptr() in weights else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        response_log_likelihoods(model, *batch, shared=True, max_tokens=most)
    return sum(kept)


def test_nothing_is_held_of_passes_that_will_be_run_again() -> None:
    model, batch = student("llama"), groups()
    assert held_for_the_gradient(model, batch, 17) == 0 < held_for_the_gradient(model, batch, None)


def trained(folder: Path, model: Any = None, **changes: Any) -> PADTrainer:
    made = PADTrainer(model or tiny_model().double(), config(folder, **changes), scored_sets(), byte_tokenizer())
    made.train()
    return made


def weights(trainer: PADTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


@in_float64
def test_bounding_a_forward_pass_changes_no_trained_weight(tmp_path: Path) -> None:
    whole = weights(trained(tmp_path / "whole", max_steps=2))
    for most in (1, 25, 60):
        found = weights(trained(tmp_path / str(most), max_steps=2, max_forward_tokens=most))
        assert float((found - whole).abs().max()) <= 1e-9


def test_the_trainer_says_once_why_a_student_cannot_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        trained(tmp_path / "shares", max_steps=1)
        assert "prompt of its own" not in caplog.text
        trained(tmp_path / "not", tiny_model("bloom"), max_steps=1)
    assert caplog.text.count("the student computes each response with a prompt of its own: 0 of its 2 layers") == 1


def test_gradient_checkpointing_in_the_trainer_changes_no_weight(tmp_path: Path) -> None:
    whole = weights(trained(tmp_path / "whole", max_steps=2))
    found = weights(trained(tmp_path / "kept", max_steps=2, gradient_checkpointing=True))
    assert float((found - whole).abs().max()) <= 1e-9
