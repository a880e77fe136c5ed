"""Bootstrap intervals: the 95 % interval of a mean, and that of a paired gain, with whole groups drawn again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pad_student.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2000


def interval(groups: "Sequence[Sequence[float] | NDArray[np.float64]]") -> tuple[float, float]:
    """The 95 % percentile interval of the mean over all values.

    Args:
        groups: values that belong together, as those of one prompt; groups are independent of each other.

    Raises:
        EvaluationError: there are no values, or one is not finite.
    """
    sums, counts = np.array([float(np.sum(each)) for each in groups]), np.array([len(each) for each in groups])
    if not len(groups) or not counts.all():
        raise EvaluationError("a bootstrap needs values in each group, and at least one group")
    if not np.isfinite(sums).all():
        raise EvaluationError("a value that is not finite has no bootstrap interval")
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class PairedGain:
    """How much larger a measure is after than before, prompt by prompt.

    ``low`` and ``high`` bound the 95 % bootstrap interval of ``gain`` over prompts.
    """

    before: float
    after: float
    gain: float
    low: float
    high: float
    prompts: int


def paired_gain(before: Mapping[str, float], after: Mapping[str, float]) -> PairedGain:
    """Compare two measurements of the same prompts, each a value by prompt id.

    Raises:
        EvaluationError: the prompts differ, there are none, or a value is not finite.
    """
    if before.keys() != after.keys():
        other = min(before.keys() ^ after.keys())
        raise EvaluationError(f"only one of the two measurements has the prompt {other!r}")
    gains = [after[each] - before[each] for each in before]
    low, high = interval([[gain] for gain in gains])
    means = [float(np.mean(list(values.values()))) for values in (before, after)]
    return PairedGain(means[0], means[1], float(np.mean(gains)), low, high, len(gains))
