"""Token-level losses: the identities of DCKD and ADPA, each against float64 over the whole vocabulary."""

import pytest
import torch

from pad_student.preference.token_losses import (
    Actions,
    adpa,
    advantages,
    dckd,
    entropy,
    forward_kl,
    kl,
    mean_advantage,
    mean_over_tokens,
    nll,
)

torch.set_num_threads(1)

VOCABULARY, TOKENS = 40, torch.tensor([3, 4])
T = int(TOKENS.sum())


def logits(seed: int, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(T, VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TEACHER, REFERENCE, STUDENT = (logits(seed).log_softmax(-1) for seed in (0, 1, 2))


def in_bins(log_probs_T_V: torch.Tensor, ids_T_K: torch.Tensor) -> torch.Tensor:
    """Log-probabilities at some ids, and the log-sum-exp over all others."""
    rest_T_V = log_probs_T_V.scatter(-1, ids_T_K, -torch.inf)
    return torch.cat([log_probs_T_V.gather(-1, ids_T_K), rest_T_V.logsumexp(-1, keepdim=True)], -1)


def actions(top: int, student=STUDENT, teacher=TEACHER, reference=REFERENCE, dtype=torch.float64) -> Actions:
    ids = teacher.topk(top, -1).indices
    return Actions(TOKENS, *(in_bins(each, ids).to(dtype) for each in (teacher, student, reference)))


def full_kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    by_token = (p.exp() * (p - q)).sum(-1)
    return torch.stack([by_token[:3].mean(), by_token[3:].mean()])


def test_the_whole_vocabulary_gives_the_exact_kl():
    exact = full_kl(TEACHER, STUDENT)
    assert (forward_kl(actions(VOCABULARY)) - exact).abs().max() < 1e-12
    assert (forward_kl(actions(VOCABULARY, dtype=torch.float32)) - exact).abs().max() < 1e-6


def test_the_kl_grows_with_k_and_never_passes_the_exact_one():
    values = torch.stack([forward_kl(actions(top)) for top in range(1, VOCABULARY + 1)])
    assert (values.diff(dim=0) > -1e-12).all()
    assert (values <= full_kl(TEACHER, STUDENT) + 1e-12).all()
    assert (values[0] < values[-1] - 0.1).all()


def test_equal_teachers_give_no_advantage_and_no_gradient():
    bins = actions(5, reference=TEACHER, dtype=torch.float32)
    student = bins.student_T_A.clone().requires_grad_()
    value = mean_advantage(bins._replace(student_T_A=student))
    value.sum().backward()
    assert torch.equal(value, torch.zeros(2))
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("top", [1, 5, VOCABULARY])
def test_adpa_has_its_sign_at_the_teacher_and_at_the_reference(top):
    """-KL(π_T‖π_ref) at the teacher and KL(π_ref‖π_T) at the reference: advantages clamped at 0 have another sign."""
    nothing = torch.zeros(2, dtype=torch.float64)
    at_teacher = actions(top, student=TEACHER)
    at_reference = actions(top, student=REFERENCE)
    teacher, reference = at_teacher.teacher_T_A, at_teacher.reference_T_A
    expected = mean_over_tokens(kl(teacher, reference), TOKENS), mean_over_tokens(kl(reference, teacher), TOKENS)
    assert torch.allclose(adpa(nothing, at_teacher, gamma=1.0), -expected[0], atol=1e-12)
    assert torch.allclose(adpa(nothing, at_reference, gamma=1.0), expected[1], atol=1e-12)
    assert (expected[0] > 0).all()
    assert (expected[1] > 0).all()


def test_an_anchor_of_weight_one_is_the_reverse_kl():
    bins = actions(5)
    to_reference, to_teacher = (
        mean_over_tokens(kl(bins.student_T_A, other), TOKENS) for other in (bins.reference_T_A, bins.teacher_T_A)
    )
    loss = adpa(torch.zeros(2, dtype=torch.float64), bins, gamma=1.0)
    assert torch.allclose(loss + to_reference, to_teacher, atol=1e-12)


def test_a_constant_advantage_changes_no_gradient():
    """∂L/∂z_b = -π_S(b)(A_b - Ā): it needs the rest bin, or probabilities do not add up to 1."""

    def gradient(shift: float) -> torch.Tensor:
        free = logits(2).requires_grad_()
        bins = actions(5, student=free.log_softmax(-1))
        adpa(torch.zeros(2), bins._replace(teacher_T_A=bins.teacher_T_A + shift)).sum().backward()
        return free.grad

    assert gradient(0.0).abs().max() > 0.01
    assert torch.allclose(gradient(0.0), gradient(7.0), atol=1e-13)


def test_adpas_gradient_is_that_of_its_closed_form():
    free = logits(2).requires_grad_()
    bins = actions(VOCABULARY - 1, student=free.log_softmax(-1))
    mean_advantage(bins).sum().backward()
    advantage = TEACHER - REFERENCE
    probability = STUDENT.exp()
    mean = (probability * advantage).sum(-1, keepdim=True)
    expected = probability * (advantage - mean) / TOKENS.repeat_interleave(TOKENS)[:, None]
    assert torch.allclose(free.grad, expected, atol=1e-12)


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_both_losses_pass_gradcheck_and_teach_only_the_student(method):
    teacher = TEACHER.clone().requires_grad_()

    def loss(free: torch.Tensor) -> torch.Tensor:
        student = free.log_softmax(-1)
        bins = actions(4, student=student, teacher=teacher)
        nll_R = nll(student[:, 0], TOKENS)
        return dckd(nll_R, bins, bins) if method == "dckd" else adpa(nll_R, bins)

    free = logits(2).requires_grad_()
    assert torch.autograd.gradcheck(loss, (free,))
    loss(free).sum().backward()
    assert teacher.grad is None


def test_the_papers_weights_are_the_defaults():
    bins, nll_R = actions(5), torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert torch.allclose(dckd(nll_R, bins, bins), nll_R + 0.2 * forward_kl(bins))
    assert torch.allclose(adpa(nll_R, bins), nll_R - 1.6 * mean_advantage(bins))


def test_a_loss_is_one_value_a_response_whatever_runs_with_it():
    both = actions(5)
    first = Actions(TOKENS[:1], *(each[:3] for each in both[1:]))
    for loss in (forward_kl, mean_advantage):
        assert torch.allclose(loss(both)[:1], loss(first), atol=1e-15)


def test_an_action_past_a_models_vocabulary_counts_for_nothing():
    """Teachers padded to a larger vocabulary: the id is gone, and its probability is in the rest."""
    bins = actions(5)
    gone = Actions(
        bins.tokens_R,
        *(torch.cat([each, torch.full((T, 1), -torch.inf, dtype=each.dtype)], -1) for each in bins[1:]),
    )
    student = gone.student_T_A.clone().requires_grad_()
    gone = gone._replace(student_T_A=student)
    assert torch.equal(forward_kl(gone), forward_kl(bins))
    assert torch.equal(mean_advantage(gone), mean_advantage(bins))
    (forward_kl(gone) + mean_advantage(gone)).sum().backward()
    assert student.grad.isfinite().all()


def test_an_action_that_only_one_teacher_has_is_an_error():
    bins = actions(5)
    reference = bins.reference_T_A.clone()
    reference[0, -1] = -torch.inf
    with pytest.raises(ValueError, match="not finite"):
        advantages(bins._replace(reference_T_A=reference))
    with pytest.raises(ValueError, match="reference"):
        advantages(bins._replace(reference_T_A=None))


def test_half_precision_teachers_are_computed_in_float32():
    bins = actions(5, dtype=torch.float16)
    assert forward_kl(bins).dtype == mean_advantage(bins).dtype == torch.float32


def test_entropy_of_equal_bins_is_the_log_of_their_number():
    equal = torch.full((2, 8), 1 / 8).log()
    assert torch.allclose(entropy(equal), torch.tensor(8.0).log())


@pytest.mark.parametrize("tokens", [[3, 3], [7, 0]])
def test_tokens_that_do_not_add_up_are_an_error(tokens):
    with pytest.raises(ValueError, match="7 values"):
        mean_over_tokens(torch.zeros(7), torch.tensor(tokens))
