"""The differences between two engines' scores of the same sets: likelihoods, rankings, selection probabilities."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_teacher.scoring.questions import combine, question_orders

Scores = list[list[float]]  # [set][response]


class MissingScore(ValueError):
    """An engine left out a score; the message names the set and the response."""


class NonFiniteScore(ValueError):
    """An engine gave a score that is NaN or infinite; the message names the set and the response."""


def mean_log_likelihoods(found: Mapping[str, Any], sets: Sequence[dict[str, Any]]) -> Scores:
    """Mean log-probability of each response's tokens, in nats. ``found["0.1"]`` has those of set 0's response 1.

    Raises:
        MissingScore: a token has no log-probability.
        NonFiniteScore: a score is NaN or infinite.
    """
    return [
        [float(_values(found, s, r, len(ids)).mean()) for r, ids in enumerate(item["response_ids"])]
        for s, item in enumerate(sets)
    ]


def selection_probabilities(found: Mapping[str, Any], sets: Sequence[dict[str, Any]]) -> Scores:
    """Selection probability of each response, averaged over rotations. ``found["0.1"]`` has set 0's question 1.

    Raises:
        MissingScore: a letter of a question has no log-probability.
        NonFiniteScore: a score is NaN or infinite.
    """
    chosen = []
    for s, item in enumerate(sets):
        n = len(item["response_ids"])
        letters = [_values(found, s, q, len(asked["labels"])).tolist() for q, asked in enumerate(item["cyclic"])]
        chosen.append(combine(n, question_orders(n, "listwise", "cyclic"), letters).selection_probabilities)
    return chosen


def compare_likelihoods(one: Scores, other: Scores) -> dict[str, float]:
    """Absolute differences in nats, and the share of each set's order that is the same.

    A pair of responses is in the same order if both engines put the same one first, or both have a tie. The margin of
    a swapped pair is the difference that ``other`` has between its two responses.

    Raises:
        MissingScore: the two do not have scores of the same sets.
        NonFiniteScore: a score is NaN or infinite.
    """
    differences = _differences(one, other)
    swapped, pairs, same_sets = [], 0, 0
    for first, second in zip(one, other, strict=True):
        both = list(combinations(zip(first, second, strict=True), 2))
        margins = [abs(b - d) for (a, b), (c, d) in both if np.sign(a - c) != np.sign(b - d)]
        pairs, same_sets, swapped = pairs + len(both), same_sets + (not margins), swapped + margins
    return {
        "sets": len(one),
        "responses": len(differences),
        **{f"{name}_nats": value for name, value in _spread(differences).items()},
        "mean_signed_nats": float(differences.mean()),
        "same_ranking": same_sets / len(one),
        "same_pairs": 1 - len(swapped) / pairs if pairs else 1.0,
        "largest_margin_of_a_swapped_pair_nats": max(swapped, default=0.0),
    }


def compare_selections(one: Scores, other: Scores) -> dict[str, float]:
    """Absolute differences of probabilities, and the share of sets whose most probable response is the same.

    Raises:
        MissingScore: the two do not have scores of the same sets.
        NonFiniteScore: a score is NaN or infinite.
    """
    differences = _differences(one, other)
    same = [np.argmax(first) == np.argmax(second) for first, second in zip(one, other, strict=True)]
    return {"sets": len(one), **_spread(differences), "same_first": float(np.mean(same))}


def _spread(differences: NDArray[np.float64]) -> dict[str, float]:
    """Of absolute values. The 99th percentile is an observed value, so it never understates a small sample."""
    size = np.abs(differences)
    p99 = float(np.quantile(size, 0.99, method="higher"))
    return {"median": float(np.median(size)), "p99": p99, "largest": float(size.max())}


def _differences(one: Scores, other: Scores) -> NDArray[np.float64]:
    if [len(scores) for scores in one] != [len(scores) for scores in other] or not any(one):
        counts = [f"{sum(map(len, scores))} scores of {len(scores)} sets" for scores in (one, other)]
        raise MissingScore(f"{counts[0]} cannot be compared with {counts[1]}")
    for scores in (one, other):
        for s, row in enumerate(scores):
            for r, value in enumerate(row):
                if not np.isfinite(value):
                    raise NonFiniteScore(f"set {s}, response {r}: {value}")
    return np.concatenate(one).astype(np.float64) - np.concatenate(other)


def _values(found: Mapping[str, Any], s: int, row: int, wanted: int) -> NDArray[np.float64]:
    values = np.asarray(found.get(f"{s}.{row}", []), np.float64)
    if values.shape != (wanted,):
        raise MissingScore(f"set {s}, row {row}: {values.size} of {wanted} log-probabilities")
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise NonFiniteScore(f"set {s}, row {row}, place {at}: {values[at]}")
    return values
