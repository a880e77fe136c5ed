"""The length-controlled win rate: AlpacaEval 2's logistic regression in its minimal form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pad_student.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS, ENOUGH = 100, 1e-12
RIDGE = 1e-4  # on the length's weight, and a hundredth on θ: preferences that are all alike have a finite fit too


class LengthControlled(NamedTuple):
    """The win rate that the fit gives responses of the same length, and the weight of length in it.

    Attributes:
        win_rate: the logistic function of ``theta``, as a share.
        theta: the model's advantage, in log-odds.
        length_weight: log-odds for each unit of tanh(difference in length / its standard deviation).
    """

    win_rate: float
    theta: float
    length_weight: float


def length_controlled(preferences: Sequence[float], lengths: Sequence[tuple[int, int]]) -> LengthControlled:
    """Fit P(model preferred) = σ(θ + φ·tanh(d / s)), and leave the length's term out of the prediction.

    This is equation 2 of Dubois et al., "Length-Controlled AlpacaEval" (arXiv 2404.04475), without the term of the
    instruction's difficulty, which needs other models' answers. d is the model's length less the baseline's, and s is
    the standard deviation of d.

    Args:
        preferences: the probability that the model's response is the better one, in each pair.
        lengths: characters of the model's and of the baseline's response, in each pair.

    Raises:
        EvaluationError: there are no pairs, or a preference is no probability.
    """
    preference_P = np.array(preferences, dtype=np.float64)
    if not len(preference_P) or not ((preference_P >= 0) & (preference_P <= 1)).all():
        raise EvaluationError("a length-controlled win rate needs preferences from 0 to 1, and at least one")
    difference_P = np.array([ours - theirs for ours, theirs in lengths], dtype=np.float64)
    spread = difference_P.std()
    unequal_P = np.tanh(difference_P / spread) if spread else np.zeros_like(difference_P)
    features_P_2 = np.stack([np.ones_like(preference_P), unequal_P], 1)
    theta, weight = _fit(features_P_2, preference_P)
    return LengthControlled(_sigmoid(theta), float(theta), float(weight))


def _fit(features_P_2: "NDArray[np.float64]", target_P: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Newton's method on the mean cross-entropy with a ridge; a step that makes it larger is halved."""
    ridge_2 = np.array([RIDGE / 100, RIDGE])

    def loss(weights_2: "NDArray[np.float64]") -> float:
        logits_P = features_P_2 @ weights_2
        return float((np.logaddexp(0, logits_P) - target_P * logits_P).mean() + (ridge_2 * weights_2**2).sum() / 2)

    weights_2 = np.zeros(2)
    for _ in range(STEPS):
        probability_P = 1 / (1 + np.exp(-features_P_2 @ weights_2))
        gradient_2 = features_P_2.T @ (probability_P - target_P) / len(target_P) + ridge_2 * weights_2
        weight_P = probability_P * (1 - probability_P)
        hessian_2_2 = (features_P_2.T * weight_P) @ features_P_2 / len(target_P) + np.diag(ridge_2)
        step_2 = np.linalg.solve(hessian_2_2, gradient_2)
        while np.abs(step_2).max() > ENOUGH and loss(weights_2 - step_2) > loss(weights_2):
            step_2 /= 2
        weights_2 -= step_2
        if np.abs(step_2).max() <= ENOUGH:
            break
    return weights_2


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


# pyright: standard
