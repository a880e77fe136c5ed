"""The student's log-likelihoods of named tokens and of the rest, against full logits: values and gradients."""

from typing import Any

import pytest
import torch

from pad_student.model.logprobs import collate, response_log_likelihoods
from support.tiny_student import tiny_model

torch.set_num_threads(1)

PROMPTS, RESPONSES = [[3, 4, 5], [3, 4, 5], [6]], [[7, 8], [9, 3, 4, 2], [5]]
A = 5


def named_of(vocabulary: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.stack([torch.randperm(vocabulary, generator=generator)[:A] for _ in ids]) for ids in RESPONSES]


def exact(model: Any, named: list[torch.Tensor]) -> list[torch.Tensor]:
    """From full logits, one row at a time."""
    found = []
    for prompt, ids, names in zip(PROMPTS, RESPONSES, named, strict=True):
        logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        log_probs = logits.log_softmax(-1)
        rest = log_probs.scatter(-1, names, -torch.inf).logsumexp(-1, keepdim=True)
        found.append(torch.cat([log_probs.gather(-1, names), rest], -1))
    return found


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("max_tokens", [None, 6])
@pytest.mark.parametrize("chunk_size", [None, 1])
def test_named_values_and_gradients_are_those_of_full_logits(
    shared: bool, max_tokens: int | None, chunk_size: int | None
) -> None:
    model = tiny_model().double()
    named = named_of(model.config.vocab_size)
    weights = [torch.randn(len(ids), A + 1, dtype=torch.float64) for ids in RESPONSES]
    sum(((w * v).sum() for w, v in zip(weights, exact(model, named), strict=True)), torch.zeros(())).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    values = exact(model, named)
    model.zero_grad()
    found = response_log_likelihoods(
        model,
        *collate(PROMPTS, RESPONSES, pad_id=0),
        shared=shared,
        max_tokens=max_tokens,
        chunk_size=chunk_size,
        named=named,
        per_token=True,
    )
    assert found.named_log_likelihoods is not None
    for ours, theirs in zip(found.named_log_likelihoods, values, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6 if shared else 1e-10)
    alone = response_log_likelihoods(model, *collate(PROMPTS, RESPONSES, pad_id=0))
    assert torch.allclose(found.log_likelihood, alone.log_likelihood)
    loss = sum(((w * v).sum() for w, v in zip(weights, found.named_log_likelihoods, strict=True)), torch.zeros(()))
    loss.backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            assert torch.allclose(parameter.grad, expected[name], atol=1e-5 if shared else 1e-9), name


def test_a_rest_of_almost_nothing_has_its_digits_and_a_gradient() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight *= 200
    vocabulary = model.config.vocab_size
    ids = torch.tensor([PROMPTS[0] + RESPONSES[0]])
    with torch.no_grad():
        likeliest = model(input_ids=ids).logits[0, 2:-1].topk(A).indices
    found = response_log_likelihoods(model, *collate(PROMPTS[:1], RESPONSES[:1], pad_id=0), named=[likeliest])
    assert found.named_log_likelihoods is not None
    rest = found.named_log_likelihoods[0][:, -1]
    with torch.no_grad():
        logits = model.double()(input_ids=ids).logits[0, 2:-1].log_softmax(-1)
    expected = logits.scatter(-1, likeliest, -torch.inf).logsumexp(-1)
    assert vocabulary > A
    assert expected.min() < -10
    assert torch.allclose(rest.double(), expected, rtol=1e-4)
    assert rest.requires_grad
