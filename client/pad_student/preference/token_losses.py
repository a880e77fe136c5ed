"""Token-level losses of Advantage-Guided Distillation (arXiv 2502.17927): DCKD and ADPA, in nats, pure functions.

Axes: R responses · T their scored tokens, one response after the other · A actions, the next tokens that the teacher
names at a position (its top K), and last the rest: one bin for all others. So every row of [T, A] is a distribution,
and each of its log-probabilities comes from a log-sum-exp: ln(1 - Σp) has no digits left where the teacher is sure.

An action that has no probability at all, as one past the end of a smaller vocabulary, is -inf and counts for nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Actions(NamedTuple):
    """Log-probabilities of the same actions under all models, at every token of R responses.

    Attributes:
        tokens_R: scored tokens of each response.
        teacher_T_A: of the aligned teacher, π_T.
        student_T_A: of the student, π_S, with gradient.
        reference_T_A: of the model that the teacher was aligned from, π_ref; DCKD needs none.
    """

    tokens_R: Tensor
    teacher_T_A: Tensor
    student_T_A: Tensor
    reference_T_A: Tensor | None = None


def dckd(
    nll_R: Tensor, chosen: Actions, rejected: Actions, *, chosen_weight: float = 0.1, rejected_weight: float = 0.1
) -> Tensor:
    """Dual-Constrained Knowledge Distillation: learn from the teacher on both responses of a pair.

    L = -1/|y_c| Σ_t ln π_S(y_c,t | s_t) + λ_c · KL(π_T‖π_S)[y_c] + λ_r · KL(π_T‖π_S)[y_r]

    with KL(π_T‖π_S)[y] = 1/|y| Σ_t Σ_a π_T(a | s_t) · ln π_T(a | s_t) / π_S(a | s_t).

    Args:
        nll_R: the first term, ``nll`` of the chosen responses.
        chosen: the chosen responses of R pairs.
        rejected: their rejected ones.
        chosen_weight: λ_c.
        rejected_weight: λ_r.

    Returns:
        One value a pair, [R].
    """
    return nll_R + chosen_weight * forward_kl(chosen) + rejected_weight * forward_kl(rejected)


def adpa(nll_R: Tensor, sampled: Actions, *, gamma: float = 1.6) -> Tensor:
    """Advantage-Guided Distillation for Preference Alignment, on the student's own responses y ~ π_S.

    L = -1/|y_c| Σ_t ln π_S(y_c,t | s_t) - γ · 1/|y| Σ_t Σ_a π_S(a | s_t) · (ln π_T - ln π_ref)(a | s_t)

    Negative advantages count as they are. The second term is linear in π_S, so its optimum is a single token: the
    first term keeps the student's entropy.

    Args:
        nll_R: the first term, ``nll`` of the reference answers.
        sampled: the student's own responses to the same R prompts.
        gamma: γ.

    Returns:
        One value a prompt, [R].
    """
    return nll_R - gamma * mean_advantage(sampled)


def nll(token_logprobs_T: Tensor, tokens_R: Tensor) -> Tensor:
    """Negative log-likelihood of each response, nats a token: -1/|y| Σ_t ln π_S(y_t | s_t), [R]."""
    return -mean_over_tokens(_float(token_logprobs_T), tokens_R)


def forward_kl(actions: Actions) -> Tensor:
    """KL(π_T‖π_S) over the actions, mean over each response's tokens, [R].

    It grows with K and never passes the KL over the whole vocabulary (data processing).
    """
    return mean_over_tokens(kl(actions.teacher_T_A.detach(), actions.student_T_A), actions.tokens_R)


def mean_advantage(actions: Actions) -> Tensor:
    """Σ_a π_S(a)·A(a) over the actions, A = ln π_T - ln π_ref, mean over each response's tokens, [R]."""
    advantage_T_A = advantages(actions)
    return mean_over_tokens((_float(actions.student_T_A).exp() * advantage_T_A).sum(-1), actions.tokens_R)


def advantages(actions: Actions) -> Tensor:
    """A = ln π_T - ln π_ref of each action, [T, A], without gradient; 0 for an action that neither of them has.

    Raises:
        ValueError: without a reference, and if only one of the two has an action.
    """
    if actions.reference_T_A is None:
        raise ValueError("an advantage needs the log-probabilities of the teacher's reference")
    teacher_T_A, reference_T_A = _float(actions.teacher_T_A.detach()), _float(actions.reference_T_A.detach())
    advantage_T_A = torch.where(teacher_T_A == reference_T_A, 0.0, teacher_T_A - reference_T_A)
    if not advantage_T_A.isfinite().all():
        raise ValueError("teacher and reference give an advantage that is not finite")
    return advantage_T_A


def kl(p_T_A: Tensor, q_T_A: Tensor) -> Tensor:
    """KL(p‖q) = Σ_a p(a)·(ln p(a) - ln q(a)) of each row of log-probabilities, at least float32, [T]."""
    p_T_A, q_T_A = _float(p_T_A), _float(q_T_A)
    has_none = p_T_A == -torch.inf
    # Masked before the difference too: the gradient of an infinite one is NaN, even if it is not taken.
    difference_T_A = p_T_A.masked_fill(has_none, 0.0) - q_T_A.masked_fill(has_none, 0.0)
    return (p_T_A.exp() * difference_T_A).sum(-1)


def entropy(log_probs_T_A: Tensor) -> Tensor:
    """-Σ_a p(a)·ln p(a) of each row, [T]: at most the entropy over the whole vocabulary."""
    log_probs_T_A = _float(log_probs_T_A)
    return -(log_probs_T_A.exp() * log_probs_T_A.masked_fill(log_probs_T_A == -torch.inf, 0.0)).sum(-1)


def mean_over_tokens(values_T: Tensor, tokens_R: Tensor) -> Tensor:
    """The mean over each response's tokens, [R].

    Raises:
        ValueError: if a response has no token, or the numbers do not add up to T.
    """
    if int(tokens_R.sum()) != len(values_T) or not (tokens_R > 0).all():
        message = f"{len(values_T)} values are not the {int(tokens_R.sum())} tokens of responses that each have some"
        raise ValueError(message)
    response_T = torch.arange(len(tokens_R), device=tokens_R.device).repeat_interleave(tokens_R)
    return values_T.new_zeros(len(tokens_R)).index_add(0, response_T, values_T) / tokens_R


def _float(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
