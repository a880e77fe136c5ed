"""Preference losses: teacher scores and student scores in, one value a prompt out, gradient to the student only.

Scores are [P, N] with each side's β applied. All values are in nats.
"""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pad_student.preference.plackett_luce import MAX_EXACT, MAX_SAMPLED, jsd, kl, log_prob, mixture_mean

Loss = Callable[[Tensor, Tensor], Tensor]


def ppd(scores_teacher: Tensor, scores_student: Tensor) -> Tensor:
    """Preference-distribution loss, JSD(P_T, P_S), in [0, ln 2] (PAD, arXiv 2502.14272, its main loss).

    Exact up to 8 responses; above, an unbiased estimate from 256 rankings.
    """
    return jsd(scores_teacher.detach(), scores_student)


def vpd(scores_teacher: Tensor, scores_student: Tensor) -> Tensor:
    """Vanilla preference loss, -ln P_S(τ*) for the teacher's ranking τ* (PAD, arXiv 2502.14272).

    Responses the teacher scores equally keep the order they came in.
    """
    return -log_prob(scores_student, _teacher_ranking(scores_teacher))


def forward_kl(scores_teacher: Tensor, scores_student: Tensor) -> Tensor:
    """KL(P_T‖P_S), exact up to 16 responses."""
    return kl(scores_teacher.detach(), scores_student)


def reverse_kl(scores_teacher: Tensor, scores_student: Tensor) -> Tensor:
    """KL(P_S‖P_T), exact up to 16 responses."""
    return kl(scores_student, scores_teacher.detach())


def symmetric_kl(scores_teacher: Tensor, scores_student: Tensor) -> Tensor:
    """Half of Jeffreys' divergence, ½KL(P_T‖P_S) + ½KL(P_S‖P_T), exact up to 16 responses."""
    return 0.5 * (forward_kl(scores_teacher, scores_student) + reverse_kl(scores_teacher, scores_student))


def released_kl(scores_teacher: Tensor, scores_student: Tensor) -> Tensor:
    """½KL(M‖P_S) + ½KL(M‖P_T), M = ½(P_T+P_S): what the code released with PAD minimises. Not a JSD.

    Its KL terms run the other way round than a JSD's, so it has no upper bound. M is the mixture of one prompt.
    With d = ln P_T/P_S it is E_M[ln cosh(d/2)]; exact up to 8 responses, an estimate from 256 rankings above.
    """

    def log_cosh_half(d: Tensor) -> Tensor:
        return torch.logaddexp(d / 2, -d / 2) - log(2)

    return mixture_mean(scores_teacher.detach(), scores_student, log_cosh_half)


def simpo(scores_teacher: Tensor, scores_student: Tensor, margin: float = 1.0) -> Tensor:
    """-ln σ(s(best) - s(worst) - margin), best and worst in the teacher's ranking (SimPO, arXiv 2405.14734).

    ``margin`` is SimPO's γ, in units of score: γ/β = 0.5 at β = 2.

    Raises:
        ValueError: if a prompt has a single response, which would be both best and worst.

    """
    ranking_P_N = _teacher_ranking(scores_teacher)
    if ranking_P_N.shape != scores_student.shape or ranking_P_N.shape[1] < 2:
        raise ValueError(
            "simpo needs teacher and student scores of one shape [prompts, n], n ≥ 2, "
            f"got {list(scores_teacher.shape)} and {list(scores_student.shape)}"
        )
    scores_student_P_N = scores_student.to(torch.promote_types(scores_student.dtype, torch.float32))
    ranked_P_N = scores_student_P_N.gather(1, ranking_P_N)
    return -logsigmoid(ranked_P_N[:, 0] - ranked_P_N[:, -1] - margin)


def anchor_nll(scores_teacher: Tensor, mean_log_likelihood: Tensor) -> Tensor:
    """Negative mean log-likelihood, nats a token, of each prompt's best response by the teacher's scores.

    Ranking losses only spread rewards apart; this term keeps the likelihood of the best one from falling.

    Args:
        scores_teacher: [P, N].
        mean_log_likelihood: the student's, [P, N].

    Returns:
        [P].

    """
    best_P_1 = _teacher_ranking(scores_teacher)[:, :1]
    return -mean_log_likelihood.gather(1, best_P_1).squeeze(1)


LOSSES: dict[str, Loss] = {
    "ppd": ppd,
    "vpd": vpd,
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "symmetric_kl": symmetric_kl,
    "released_kl": released_kl,
    "simpo": simpo,
}
EXACT_LOSSES = ("forward_kl", "reverse_kl", "symmetric_kl")  # sums over all sets of responses


def most_responses(name: str) -> int:
    """The most responses that a loss compares: its limit for exact sums, or the largest number it is tested with."""
    return MAX_EXACT if name in EXACT_LOSSES else MAX_SAMPLED


def _teacher_ranking(scores_teacher: Tensor) -> Tensor:
    if scores_teacher.ndim != 2 or not scores_teacher.isfinite().all():
        raise ValueError(f"teacher scores must be finite and [prompts, n], got {list(scores_teacher.shape)}")
    return scores_teacher.detach().argsort(dim=1, descending=True, stable=True)
