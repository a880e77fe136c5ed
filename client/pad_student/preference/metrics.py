"""Metrics of a batch that show whether its preference signal is flat, saturated or repeated."""

from itertools import combinations
from math import lgamma

import torch
from torch import Tensor

from pad_student.preference.diagnostics import RANK_PREFIX
from pad_student.preference.plackett_luce import MAX_EXACT, entropy, estimated_entropy


@torch.no_grad()
def preference_metrics(
    scores_teacher: Tensor,
    scores_student: Tensor,
    mean_log_likelihood: Tensor,
    label_mass: Tensor | None = None,
    same_text: Tensor | None = None,
) -> dict[str, float]:
    """Averages over the prompts of a batch.

    Args:
        scores_teacher: [P, N], β applied, n ≥ 2.
        scores_student: [P, N], β applied.
        mean_log_likelihood: of each response under the student, nats a token, [P, N].
        label_mass: probability the teacher put on option letters at all, [P].
        same_text: the place of the first response of the set with the same text, [P, N]; by default all differ.
            Copies of one text differ in score by chance alone, so they count as one response.

    Returns:
        ``entropy/teacher`` and ``entropy/student``, of the rankings, over ln n!: 0 one-hot, 1 uniform; exact
        up to 16 responses, an estimate above, which is the same for the same scores and reads no random state;
        ``agreement/top1``, by text, over sets of two texts and more; ``agreement/pairwise``, over pairs of two texts
        that are tied on neither side; each is nan if there is none;
        ``mean_log_likelihood/rank_1`` (the teacher's best) to ``…/rank_n``; ``label_mass`` if given.

    Raises:
        ValueError: for n below 2, differing shapes or non-finite scores.

    """
    n = scores_teacher.shape[-1]
    if n < 2 or not scores_teacher.shape == scores_student.shape == mean_log_likelihood.shape:
        shapes = [list(tensor.shape) for tensor in (scores_teacher, scores_student, mean_log_likelihood)]
        raise ValueError(f"metrics need three tensors of one shape [prompts, n], n ≥ 2, got {shapes}")
    if same_text is None:
        same_text = torch.arange(n, device=scores_teacher.device).expand_as(scores_teacher)
    ranking_P_N = scores_teacher.argsort(dim=1, descending=True, stable=True)
    by_rank_N = mean_log_likelihood.float().gather(1, ranking_P_N).mean(0)
    uncertainty = entropy if n <= MAX_EXACT else estimated_entropy
    metrics = {
        "entropy/teacher": uncertainty(scores_teacher).mean().item() / lgamma(n + 1),
        "entropy/student": uncertainty(scores_student).mean().item() / lgamma(n + 1),
        "agreement/top1": _top1_agreement(scores_teacher, scores_student, same_text),
        "agreement/pairwise": _pairwise_agreement(scores_teacher, scores_student, same_text),
    }
    metrics |= {f"{RANK_PREFIX}{rank}": value for rank, value in enumerate(by_rank_N.tolist(), 1)}
    if label_mass is not None:
        metrics["label_mass"] = label_mass.float().mean().item()
    return metrics


@torch.no_grad()
def agreement_weights(scores_teacher: Tensor, scores_student: Tensor, same_text: Tensor) -> dict[str, int]:
    """By how much each agreement of ``preference_metrics`` counts in a mean over batches: the sets or pairs it is of.

    Args:
        scores_teacher: [P, N].
        scores_student: [P, N].
        same_text: [P, N]; see ``preference_metrics``.
    """
    _, judged = _judged_pairs(scores_teacher, scores_student, same_text)
    return {
        "agreement/top1": int((same_text != 0).any(1).sum().item()),
        "agreement/pairwise": int(judged.sum().item()),
    }


@torch.no_grad()
def choice_metrics(
    selection_spread: Tensor | None, order_disagreement: Tensor | None, orders_asked: Tensor | None = None
) -> dict[str, float]:
    """Averages over the prompts of a batch that tell whether the teacher's choice means anything.

    Args:
        selection_spread: total variation between a set's selection probabilities and equal ones, 0 to 1, [P].
        order_disagreement: largest total variation between two orders of one set's responses, 0 to 1, [P].
        orders_asked: number of orders, [P].

    Returns:
        ``choice/spread``, ``choice/order_disagreement`` and ``choice/orders_asked``, each if it is given.
    """
    given = {
        "choice/spread": selection_spread,
        "choice/order_disagreement": order_disagreement,
        "choice/orders_asked": orders_asked,
    }
    return {name: value.float().mean().item() for name, value in given.items() if value is not None}


@torch.no_grad()
def response_metrics(
    rewards_teacher: Tensor, rewards_student: Tensor, tokens: Tensor, text_bytes: Tensor
) -> dict[str, float]:
    """Averages over the responses of a batch: rewards of both sides, and lengths.

    Args:
        rewards_teacher: [P, N], without β.
        rewards_student: [P, N], without β.
        tokens: of the student's tokenizer, [P, N].
        text_bytes: UTF-8 bytes, [P, N].

    Returns:
        ``reward/teacher``, ``reward/student``, ``length/tokens`` and ``length/bytes``.

    """
    values = {"reward/teacher": rewards_teacher, "reward/student": rewards_student}
    lengths = {"length/tokens": tokens, "length/bytes": text_bytes}
    return {name: value.double().mean().item() for name, value in (values | lengths).items()}


@torch.no_grad()
def sample_metrics(same_text: Tensor, cut: Tensor, other_ids: Tensor) -> dict[str, float]:
    """Shares of the responses of a batch that teach little or nothing, and of those that are read as they were drawn.

    Args:
        same_text: the place of the first response of the set with the same text, [P, N].
        cut: whether the response stopped at the longest length, [P, N].
        other_ids: whether the student drew other ids than those of the text, [P, N].

    Returns:
        ``share/cut``, ``share/copies`` and ``share/other_ids``, of responses: cut ones, those that repeat an earlier
        one of their set, and those with other ids; ``share/one_text``, of sets whose responses are all the same text,
        which have no preference to learn.
    """
    places_N = torch.arange(same_text.shape[1], device=same_text.device)
    values = {"cut": cut, "copies": same_text != places_N, "one_text": (same_text == 0).all(1)}
    values["other_ids"] = other_ids
    return {f"share/{name}": value.float().mean().item() for name, value in values.items()}


def _top1_agreement(scores_teacher_P_N: Tensor, scores_student_P_N: Tensor, same_text_P_N: Tensor) -> float:
    """How often the student's best text is one of the teacher's best, over sets of two texts and more."""
    students_best_P_1 = scores_student_P_N.argmax(1, keepdim=True)
    has_the_text_P_N = same_text_P_N == same_text_P_N.gather(1, students_best_P_1)
    is_best_P_N = scores_teacher_P_N == scores_teacher_P_N.amax(1, keepdim=True)
    differ_P = (same_text_P_N != 0).any(1)
    agrees_P = (has_the_text_P_N & is_best_P_N).any(1)[differ_P]
    return agrees_P.float().mean().item() if agrees_P.numel() else float("nan")


def _pairwise_agreement(scores_teacher_P_N: Tensor, scores_student_P_N: Tensor, same_text_P_N: Tensor) -> float:
    agrees, judged = _judged_pairs(scores_teacher_P_N, scores_student_P_N, same_text_P_N)
    return agrees[judged].float().mean().item() if judged.any() else float("nan")


def _judged_pairs(
    scores_teacher_P_N: Tensor, scores_student_P_N: Tensor, same_text_P_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Of each pair of responses, [P, pairs]: whether both sides order it the same, and whether it counts."""
    first, second = zip(*combinations(range(scores_teacher_P_N.shape[1]), 2), strict=True)
    side_T, side_S = (
        (s[:, list(first)] - s[:, list(second)]).sign() for s in (scores_teacher_P_N, scores_student_P_N)
    )
    two_texts = same_text_P_N[:, list(first)] != same_text_P_N[:, list(second)]
    return side_T == side_S, (side_T * side_S != 0) & two_texts


# pyright: standard
