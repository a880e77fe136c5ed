"""Preference losses: their values, their bounds, and that only the student learns from them."""

from math import exp, fsum, log

import pytest
import torch

from pad_student.preference.losses import (
    LOSSES,
    anchor_nll,
    forward_kl,
    ppd,
    released_kl,
    reverse_kl,
    simpo,
    symmetric_kl,
    vpd,
)
from pad_student.preference.plackett_luce import jsd, log_prob, rankings

torch.set_num_threads(1)

TEACHER = torch.tensor([[0.2, 1.5, -0.7, 0.9], [2.0, -1.0, 0.5, 0.0], [0.0, 0.1, 0.2, 0.3]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0.1, 0.3, -0.5], [0.4, 0.2, -0.9, 1.2], [0.3, 0.2, 0.1, 0.0]], dtype=torch.float64)

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@every_loss
def test_a_loss_is_one_value_a_prompt_and_ignores_the_batch(loss):
    together = loss(TEACHER, STUDENT)
    alone = torch.cat([loss(TEACHER[i : i + 1], STUDENT[i : i + 1]) for i in range(3)])
    assert together.shape == (3,)
    assert torch.allclose(together, alone, atol=1e-14, rtol=0)


@every_loss
def test_the_gradient_passes_gradcheck_and_is_the_students_alone(loss):
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: loss(TEACHER, scores), (student,))
    teacher = TEACHER.clone().requires_grad_()
    loss(teacher, student).sum().backward()
    assert teacher.grad is None


@every_loss
def test_half_precision_scores_are_computed_in_float32(loss):
    value = loss(TEACHER.bfloat16(), STUDENT.bfloat16())
    assert value.dtype == torch.float32
    assert torch.allclose(value, loss(TEACHER.bfloat16().float(), STUDENT.bfloat16().float()))


@every_loss
def test_a_step_against_the_gradient_lowers_the_loss(loss):
    student = STUDENT.clone().requires_grad_()
    before = loss(TEACHER, student).sum()
    (gradient,) = torch.autograd.grad(before, student)
    assert loss(TEACHER, STUDENT - 0.05 * gradient).sum() < before


@pytest.mark.parametrize("loss", [ppd, forward_kl, reverse_kl, symmetric_kl, released_kl])
def test_a_divergence_is_zero_with_zero_gradient_at_the_teacher(loss):
    student = (TEACHER + 2.0).requires_grad_()
    value = loss(TEACHER, student)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.abs().max() < 1e-14
    assert gradient.abs().max() < 1e-14


def test_ppd_is_the_jsd():
    assert torch.equal(ppd(TEACHER, STUDENT), jsd(TEACHER, STUDENT))


def test_vpd_is_the_negative_log_prob_of_the_teachers_ranking():
    ranking = torch.tensor([[1, 3, 0, 2], [0, 2, 3, 1], [3, 2, 1, 0]])
    assert torch.equal(vpd(TEACHER, STUDENT), -log_prob(STUDENT, ranking))


def test_vpd_keeps_the_given_order_among_ties():
    tied = torch.tensor([[1.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    assert torch.equal(vpd(tied, STUDENT[:1]), -log_prob(STUDENT[:1], torch.tensor([[1, 2, 0, 3]])))


def test_kl_losses_have_the_direction_their_names_say():
    every = rankings(4).expand(3, -1, -1)
    log_t, log_s = log_prob(TEACHER, every), log_prob(STUDENT, every)
    forward, reverse = (log_t.exp() * (log_t - log_s)).sum(1), (log_s.exp() * (log_s - log_t)).sum(1)
    assert torch.allclose(forward_kl(TEACHER, STUDENT), forward, atol=1e-12)
    assert torch.allclose(reverse_kl(TEACHER, STUDENT), reverse, atol=1e-12)
    assert torch.allclose(symmetric_kl(TEACHER, STUDENT), (forward + reverse) / 2, atol=1e-12)


def test_released_kl_equals_its_definition_by_enumeration():
    every = rankings(4)
    log_t, log_s = (log_prob(scores[:1], every.unsqueeze(0))[0].tolist() for scores in (TEACHER, STUDENT))
    expected = 0.0
    for t, s in zip(log_t, log_s, strict=True):
        m = (exp(t) + exp(s)) / 2
        expected += 0.5 * m * (log(m) - s) + 0.5 * m * (log(m) - t)
    assert released_kl(TEACHER, STUDENT)[0].item() == pytest.approx(expected, abs=1e-12)


def test_released_kl_passes_the_bound_that_ppd_keeps():
    teacher, student = torch.tensor([[20.0, 0.0, -20.0]]), torch.tensor([[-20.0, 0.0, 20.0]])
    assert released_kl(teacher, student).item() > 5
    assert ppd(teacher, student).item() <= log(2) + 1e-7


def test_released_kl_above_enumeration_estimates_the_same():
    torch.manual_seed(0)
    value = released_kl(torch.zeros(50, 9), 0.3 * torch.randn(50, 9))
    assert ((value > 0) & (value < 1)).all()


def test_simpo_compares_the_teachers_best_and_worst():
    gaps = [0.1 - 0.3, 0.4 - 0.2, 0.0 - 0.3]
    expected = [log(1 + exp(-(gap - 0.5))) for gap in gaps]
    assert simpo(TEACHER, STUDENT, margin=0.5).tolist() == pytest.approx(expected, abs=1e-12)


def test_simpo_refuses_a_single_response():
    with pytest.raises(ValueError, match="n ≥ 2"):
        simpo(torch.zeros(1, 1), torch.zeros(1, 1))


def test_anchor_is_the_negative_log_likelihood_of_the_best():
    mean_log_likelihood = -torch.arange(1.0, 13.0).view(3, 4).requires_grad_()
    anchor = anchor_nll(TEACHER, mean_log_likelihood)
    assert anchor.tolist() == [2.0, 5.0, 12.0]
    assert anchor.requires_grad


def test_a_teacher_score_that_is_not_finite_is_refused():
    broken = TEACHER.clone()
    broken[0, 0] = float("nan")
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match="finite"):
            loss(broken, STUDENT)


def test_ppd_with_published_betas_is_nearly_flat_and_vpd_steep():
    teacher = 10 * torch.tensor([[-0.2, -1.1, -1.9, -3.0]])
    student = (10 * torch.tensor([[-0.95, -0.9, -1.0, -0.85]])).requires_grad_()
    norms = [torch.autograd.grad(loss(teacher, student).sum(), student)[0].norm().item() for loss in (ppd, vpd)]
    assert norms[0] < 0.25 * norms[1]


def test_a_uniform_pair_has_vpd_ln_n_factorial():
    assert vpd(torch.zeros(1, 4), torch.zeros(1, 4)).item() == pytest.approx(fsum(map(log, (2, 3, 4))), abs=1e-6)
