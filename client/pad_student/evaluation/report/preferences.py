"""The teacher's and the student's preferences over the same responses, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import torch

from pad_student.evaluation.report.collect import BeforeAfter
from pad_student.preference.plackett_luce import MAX_ENUMERATED, jsd, log_prob, rankings

MOST_RANKINGS = 6
RANKED = 4  # responses: 24 rankings


@dataclass(frozen=True, slots=True)
class Line:
    """A response or a ranking, and its probability for the teacher and for the student before and after training."""

    name: str
    text: str
    teacher: float
    before: float
    after: float | None


@dataclass(frozen=True, slots=True)
class Preferences:
    """One prompt's responses, the teacher's likeliest rankings, and the distances (JSD) of the two sides in nats."""

    responses: list[Line]
    rankings: list[Line]
    distance_before: float | None
    distance_after: float | None


def preferences(answered: BeforeAfter, beta_teacher: float, beta_student: float) -> Preferences | None:
    """Plackett-Luce distributions over the responses from before training; None if these were not scored.

    Args:
        answered: a prompt's lines of ``shown.jsonl``.
        beta_teacher: the run's sharpness of the teacher's preferences.
        beta_student: the run's sharpness of the student's preferences.
    """
    before, after = answered.before, answered.after
    if not before or "rewards_student" not in before:
        return None
    teacher = beta_teacher * _scores(before["rewards_teacher"])
    student = beta_student * _scores(before["rewards_student"])
    trained = beta_student * _scores(after["rewards_student"]) if after and "rewards_student" in after else None
    few = teacher.shape[1] <= MAX_ENUMERATED
    return Preferences(
        _responses(before["compared"]["responses"], teacher, student, trained),
        _rankings(teacher, student, trained) if teacher.shape[1] <= RANKED else [],
        jsd(teacher, student).item() if few else None,
        jsd(teacher, trained).item() if few and trained is not None else None,
    )


def letter(index: int) -> str:
    """A to Z, then AA, AB and so on."""
    return (letter(index // 26 - 1) if index >= 26 else "") + ascii_uppercase[index % 26]


def _scores(rewards: Sequence[float]) -> torch.Tensor:
    return torch.tensor([rewards], dtype=torch.float64)


def _responses(
    responses: list[dict[str, Any]], teacher: torch.Tensor, student: torch.Tensor, trained: torch.Tensor | None
) -> list[Line]:
    """The probability of each response to be ranked first."""
    firsts = [scores.softmax(1)[0].tolist() if scores is not None else None for scores in (teacher, student, trained)]
    return [
        Line(letter(k), response["text"], firsts[0][k], firsts[1][k], firsts[2][k] if firsts[2] else None)  # type: ignore[index]
        for k, response in enumerate(responses)
    ]


def _rankings(teacher: torch.Tensor, student: torch.Tensor, trained: torch.Tensor | None) -> list[Line]:
    """The teacher's likeliest rankings, with both sides' probabilities."""
    every = rankings(teacher.shape[1])
    of_each = [
        log_prob(scores, every[None]).exp()[0] if scores is not None else None
        for scores in (teacher, student, trained)
    ]
    best = of_each[0].argsort(descending=True, stable=True)[:MOST_RANKINGS].tolist()  # type: ignore[union-attr]
    return [
        Line(
            " > ".join(letter(i) for i in every[k].tolist()),
            "",
            *(float(values[k]) if values is not None else None for values in of_each),  # type: ignore[arg-type]
        )
        for k in best
    ]


# pyright: standard
