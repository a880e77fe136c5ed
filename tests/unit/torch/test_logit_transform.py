"""Scale and soft cap: three forms of one function."""

from types import SimpleNamespace

import pytest
import torch

from pad_torch.logit_transform import LogitTransform

TRANSFORMS = [LogitTransform(*each) for each in ((1.0, None), (0.25, None), (1.0, 2.0), (3.0, 1.5))]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_in_place_and_differentiable_forms_agree(transform: LogitTransform) -> None:
    logits = torch.randn(5, 7)
    expected = logits * transform.scale
    if transform.softcap:
        expected = transform.softcap * torch.tanh(expected / transform.softcap)
    assert torch.allclose(transform(logits), expected)
    assert torch.allclose(transform.apply_(logits.clone()), expected, atol=1e-6)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_gradient_is_that_of_autograd(transform: LogitTransform) -> None:
    logits, outer = torch.randn(5, 7, dtype=torch.float64, requires_grad=True), torch.randn(5, 7).double()
    transformed = transform(logits)
    (expected,) = torch.autograd.grad(transformed, logits, outer)
    assert torch.allclose(transform.gradient_(outer.clone(), transformed.detach()), expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (1.0, None)),
        ({"logit_scale": 0.25}, (0.25, None)),
        ({"logits_scaling": 4.0}, (0.25, None)),
        ({"final_logit_softcapping": 30.0}, (1.0, 30.0)),
    ],
)
def test_it_is_read_from_a_text_config(config: dict[str, float], expected: tuple[float, float | None]) -> None:
    assert LogitTransform.of(SimpleNamespace(**config)) == expected


def test_sixteen_bit_logits_become_float32() -> None:
    assert LogitTransform(1.0, None)(torch.randn(3).bfloat16()).dtype == torch.float32
