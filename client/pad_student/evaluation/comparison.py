"""Two methods on the same prompts: the gain, its bootstrap interval over prompts and seeds, and McNemar's test."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pad_student.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 4000
CRITICAL, POWER = 1.959963984540054, 0.8416212335729143  # standard normal quantiles of 0.975 and of 0.8

Grades = Mapping[str, Sequence[float]]
"""The grades of one seed: those of each prompt's responses, by the prompt's id."""


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better B is than A.

    Attributes:
        low: the lower end of the gain's 95 % percentile interval; ``high`` is the upper end. Prompts are drawn again,
            with all their responses, and seeds are drawn again if there are several.
        standard_error: of the gain, from the same draws.
        smallest: the gain that a comparison of this size finds in 80 % of repetitions, at 5 % two-sided.
    """

    a: float
    b: float
    gain: float
    low: float
    high: float
    standard_error: float
    smallest: float
    prompts: int
    seeds: int


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact two-sided test of McNemar (1947) over pairs of which one passes and the other fails.

    ``p_value`` is the probability of so uneven a split, or of a more uneven one, if A and B pass equally often.
    """

    only_a: int
    only_b: int
    p_value: float


def gain(a: Sequence[Grades], b: Sequence[Grades]) -> Gain:
    """Compare two methods, of which the k-th seeds belong together.

    A prompt counts by the mean of its responses, and each seed by the mean of its prompts.

    Raises:
        EvaluationError: the prompts or the number of seeds differ, a prompt has no grade, or one is not finite.
    """
    a_S_P, b_S_P = _table(a), _table(b)
    if [sorted(seed) for seed in a] != [sorted(seed) for seed in b]:
        raise EvaluationError(
            "the two have other prompts or numbers of seeds; compare the same prompts, seed by seed"
        )
    gain_S_P = b_S_P - a_S_P
    draws = _resampled_means(gain_S_P)
    low, high = np.quantile(draws, [0.025, 0.975])
    error = float(draws.std(ddof=1))
    seeds, prompts = gain_S_P.shape
    means = (float(a_S_P.mean()), float(b_S_P.mean()), float(gain_S_P.mean()))
    return Gain(*means, float(low), float(high), error, (CRITICAL + POWER) * error, prompts, seeds)


def mcnemar(a: Sequence[Grades], b: Sequence[Grades]) -> McNemar | None:
    """The test over prompts and seeds; None unless each prompt has one response that passes (1) or fails (0).

    Several responses to one prompt are not independent, and the test takes pairs for independent.
    """
    pairs = [(seed[name], same[name]) for seed, same in zip(a, b, strict=True) for name in seed]
    if not all(len(one) == len(other) == 1 and {*one, *other} <= {0.0, 1.0} for one, other in pairs):
        return None
    only_a = sum(one[0] > other[0] for one, other in pairs)
    only_b = sum(one[0] < other[0] for one, other in pairs)
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**n))


def _table(seeds: Sequence[Grades]) -> "NDArray[np.float64]":
    """The mean grade of each prompt, [S, P], prompts in the order of their ids."""
    if not seeds or not all(seeds) or not all(len(grades) for seed in seeds for grades in seed.values()):
        raise EvaluationError("a comparison needs a grade for each prompt, and at least one prompt")
    if len({tuple(sorted(seed)) for seed in seeds}) > 1:
        raise EvaluationError("the seeds of one method have other prompts; compare the same prompts")
    table_S_P = np.array([[np.mean(seed[name]) for name in sorted(seed)] for seed in seeds], dtype=np.float64)
    if not np.isfinite(table_S_P).all():
        raise EvaluationError("a grade that is not finite cannot be compared")
    return table_S_P


def _resampled_means(gain_S_P: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Means over prompts and seeds that are drawn again, independently of each other."""
    random = np.random.default_rng(0)
    seeds, prompts = gain_S_P.shape
    times_D_P = random.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES) / prompts
    times_D_S = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    return np.einsum("ds,sp,dp->d", times_D_S, gain_S_P, times_D_P, optimize=True)


# pyright: standard
