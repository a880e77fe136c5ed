"""From what a chat API returns to probabilities that say how sure they are: pure functions.

Letters: N options, each a letter in the order shown. Votes: counts of N options over all orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_special: Any = scipy.special  # which has no types for all of its functions

PRIOR = 0.5  # of each option: Jeffreys' prior
COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Bounded:
    """Renormalised probabilities [N] of the letters of one question, and the interval in which each must lie."""

    values: list[float]
    lowest: list[float]
    highest: list[float]
    label_mass: float
    unreturned: float


def from_letters(row: Sequence[float]) -> Bounded | None:
    """The choice in one order, by the probabilities of letters that an API returned; None if it returned no letter.

    The rest, R, is the probability of all tokens that were not returned. None of these exceeds m, the least that was
    returned. S are the returned letters. Of R, all might belong to one letter (in another spelling) or to the others,
    so the share of letter i lies in [p_i / (S + R), (p_i + R) / (S + R)]. The k letters that were not returned are
    put at min(m, R / k) each, within these bounds: a probability of zero would have no logarithm.

    Args:
        row: [N + 2], as ``engines/openai/replies.py`` makes it: p_i as far as it was returned, R and m.
    """
    *letters, rest, least = (float(value) for value in row)
    mass = sum(letters)
    if not mass:
        return None
    share = min(least, rest / max(1, letters.count(0.0)))
    at = [value or share for value in letters]
    return Bounded(
        values=[value / sum(at) for value in at],
        lowest=[value / (mass + rest) for value in letters],
        highest=[(value + rest) / (mass + rest) for value in letters],
        label_mass=min(1.0, mass),
        unreturned=rest,
    )


@dataclass(frozen=True, slots=True)
class Posterior:
    """Of the probability p_i of each of N options, given votes: its mean, the mean of ln p_i, and an interval."""

    mean: list[float]
    mean_log: list[float]
    lowest: list[float]
    highest: list[float]

    @property
    def width(self) -> float:
        """Of the widest interval."""
        return max(high - low for low, high in zip(self.lowest, self.highest, strict=True))


@lru_cache(maxsize=4096)
def posterior(counts: tuple[int, ...]) -> Posterior:
    """The posterior of N options that got ``counts`` [N] of k votes, under a Dirichlet prior of 1/2 each.

    p is Dirichlet with a_i = 1/2 + c_i, so E[p_i] = a_i / a_0, E[ln p_i] = ψ(a_i) - ψ(a_0) and p_i is
    Beta(a_i, a_0 - a_i), with a_0 = Σ a_i = N/2 + k (Gelman and others, Bayesian Data Analysis, appendix A). Of the
    logarithm its mean is taken, not the logarithm of a share: ln 0 would be infinite, and ln(share) is biased.

    The votes of all orders count alike, so each order must have as many: then p_i is the mean over the orders.
    """
    a: Floats = np.array(counts, np.float64) + PRIOR
    total = a.sum()
    tail = (1 - COVERAGE) / 2
    lowest: Floats = _special.betaincinv(a, total - a, tail)
    highest: Floats = _special.betaincinv(a, total - a, 1 - tail)
    mean_log: Floats = _special.digamma(a) - _special.digamma(total)
    return Posterior((a / total).tolist(), mean_log.tolist(), lowest.tolist(), highest.tolist())


@dataclass(frozen=True, slots=True)
class VoteRule:
    """How many votes a set gets: at most ``most``, and no more once the widest interval has ``width`` or less.

    Nothing else ends the vote. To stop once the best option is settled would leave the others' probabilities open,
    and the whole distribution is what a student learns.
    """

    most: int
    width: float

    def rounds(self, orders: int) -> int:
        """The most rounds, in each of which every order gets one vote; one at least."""
        return max(1, self.most // orders)

    def first_rounds(self, options: int, orders: int) -> int:
        """The rounds that are needed in any case: before that, not even votes that all agree are enough."""
        most = self.rounds(orders)
        agreed = ((r, (r * orders, *[0] * (options - 1))) for r in range(1, most))
        return next((r for r, counts in agreed if self.is_enough(counts)), most)

    def is_enough(self, counts: tuple[int, ...]) -> bool:
        """Whether votes with these counts [N] need no further ones."""
        return posterior(counts).width <= self.width
