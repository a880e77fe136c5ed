"""Counts over sets of known quality: win rates with bootstrap intervals, position bias, agreement, correlation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pad_student.evaluation.audit.asking import Array, Choices
from pad_student.evaluation.bootstrap import interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDENTICAL = "identical"  # a copy of the right answer: it can neither win nor lose


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often the right response scores above another of its set; a tie counts one half.

    ``low`` and ``high`` bound the 95 % bootstrap interval over sets. ``first`` is the share of sets in which the
    right response scores above all others but its copies.
    """

    mean: float
    low: float
    high: float
    first: float
    sets: int
    by_kind: dict[str, float]

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above one half."""
        return self.low > 0.5


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference of two win rates over the same sets, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def win_rate(scores: Sequence[Array], kinds: Sequence[Sequence[str]]) -> WinRate:
    """Compare the first response of each set with the others.

    Args:
        scores: of each set, one score a response [N]; larger is better.
        kinds: of each set, the kind of each response; the first is the right one.

    Raises:
        ValueError: without a set, or for a score that is not finite.
    """
    wins = [_wins(score_N, of_set) for score_N, of_set in zip(scores, kinds, strict=True)]
    if not wins:
        raise ValueError("no set was scored")
    by_kind: dict[str, list[float]] = {}
    for won, of_set in zip(wins, kinds, strict=True):
        for k, value in zip(_others(of_set), won.tolist(), strict=True):
            by_kind.setdefault(of_set[k], []).append(value)
    low, high = interval(wins)
    return WinRate(
        mean=float(np.concatenate(wins).mean()),
        low=low,
        high=high,
        first=float(np.mean([bool((won == 1).all()) for won in wins])),
        sets=len(wins),
        by_kind={kind: float(np.mean(values)) for kind, values in by_kind.items()},
    )


def paired_gain(scores: Sequence[Array], baseline: Sequence[Array], kinds: Sequence[Sequence[str]]) -> Gain:
    """How much more often the right response wins by ``scores`` than by ``baseline``, over the same sets.

    Raises:
        ValueError: for a score that is not finite.
    """
    differences = [
        _wins(score_N, of_set) - _wins(baseline_N, of_set)
        for score_N, baseline_N, of_set in zip(scores, baseline, kinds, strict=True)
    ]
    return Gain(float(np.concatenate(differences).mean()), *interval(differences))


def _others(kinds: Sequence[str]) -> list[int]:
    """The places of the responses that the right one, the first, is compared with."""
    return [k for k, kind in enumerate(kinds) if k and kind != IDENTICAL]


def _wins(score_N: Array, kinds: Sequence[str]) -> Array:
    if not np.isfinite(score_N).all():
        raise ValueError("a score is not finite")
    return 0.5 * (np.sign(score_N[0] - score_N[_others(kinds)]) + 1)


def letter_means(choices: Sequence[Choices]) -> list[float]:
    """Position bias: the mean probability of each letter over sets and orders. Without bias all are equal.

    Sets of different sizes are counted up to the smallest one's letters.
    """
    smallest = min(choice.orders_O_N.shape[1] for choice in choices)
    by_letter = [
        np.take_along_axis(choice.probabilities_O_N, choice.orders_O_N, 1).mean(0)[:smallest] for choice in choices
    ]
    return np.mean(by_letter, 0).tolist()


def same_pick(choices: Sequence[Choices]) -> float:
    """The share of sets in which every order picks the same response."""
    return float(np.mean([len(set(choice.probabilities_O_N.argmax(1).tolist())) == 1 for choice in choices]))


def order_disagreement(choices: Sequence[Choices]) -> float:
    """The mean over sets of the largest total variation between two orders, 0 to 1."""
    return float(np.mean([_largest_total_variation(choice.probabilities_O_N) for choice in choices]))


def _largest_total_variation(probabilities_O_N: Array) -> float:
    return float(0.5 * np.abs(probabilities_O_N[:, None] - probabilities_O_N[None, :]).sum(-1).max())


def correlation_within_sets(first: Sequence[Array], second: Sequence[Array]) -> float | None:
    """Pearson correlation of two quantities, each less its set's mean; None if one of them never varies."""
    x, y = (np.concatenate([value - value.mean() for value in of]) for of in (first, second))
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norms if norms else None


def same_order(first: Sequence[Array], second: Sequence[Array]) -> float:
    """The share of pairs within a set that two signals order alike; a tie in one of them counts one half."""
    shares: list[float] = []
    for a_N, b_N in zip(first, second, strict=True):
        upper: tuple[NDArray[np.intp], NDArray[np.intp]] = np.triu_indices(len(a_N), 1)
        a, b = (np.sign(values[:, None] - values[None, :])[upper] for values in (a_N, b_N))
        shares += (0.5 * (a * b + 1)).tolist()
    return float(np.mean(shares))
