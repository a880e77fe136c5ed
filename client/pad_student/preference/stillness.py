"""Whether the loss has moved: a straight line through all steps, with what its noise leaves open."""

from collections.abc import Mapping
from math import sqrt

RATE_ZERO_STEPS = 3  # a warm-up begins at 0 and a schedule may end there, for a step each
STILL_STEPS = 100
STILL = 0.05  # of the mean loss: the greatest change that may hide in the noise
ERRORS = 2.0  # standard errors of the line's slope


class Stillness:
    """Judges from every step's loss and learning rate whether training changes anything.

    - Noise alone is no stillness: a change is ruled out only if the line's error is small too.
    - Steps of a warm-up do not count: the line begins anew while the learning rate rises.

    Args:
        otherwise: a reason that the data may give.
    """

    def __init__(self, otherwise: str) -> None:
        self._otherwise = otherwise
        self._greatest_rate = 0.0
        self._steps_at_zero = 0
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._mean_x = self._mean_y = self._xx = self._yy = self._xy = 0.0

    def update(self, loss: float | None, metrics: Mapping[str, float]) -> dict[str, str]:
        """Take one step; return the warning, if there is reason for one."""
        rate = metrics.get("learning_rate")
        if rate is not None:
            self._steps_at_zero += rate == 0 == self._greatest_rate
            if rate > self._greatest_rate:
                self._greatest_rate = rate
                self._begin()
        if self._steps_at_zero >= RATE_ZERO_STEPS and not self._greatest_rate:
            return {
                "still": "The learning rate has been 0 since the start, so no step changes the student. Set"
                " learning_rate, or a schedule (lr_scheduler_type) that does not begin at its end."
            }
        if loss is None:
            return {}
        self._add(loss)
        change = self._greatest_change()
        if change is None or change >= STILL:
            return {}
        said = "" if rate is None else f" (now {rate:g})"
        return {
            "still": (
                f"The loss has not moved: it is {self._mean_y:.3f} over {self._count} logged steps, and any change of"
                f" more than {change:.1%} would be seen. The student learns next to nothing. Raise learning_rate"
                f"{said}, tenfold at first: an adapter needs about 1e-4. If that changes nothing either, look"
                f" whether the weights that matter are frozen, and whether {self._otherwise}."
            )
        }

    def _add(self, loss: float) -> None:
        """Welford's update of means, variances and covariance."""
        place = float(self._count)
        self._count += 1
        dx, dy = place - self._mean_x, loss - self._mean_y
        self._mean_x += dx / self._count
        self._mean_y += dy / self._count
        self._xx += dx * (place - self._mean_x)
        self._yy += dy * (loss - self._mean_y)
        self._xy += dx * (loss - self._mean_y)

    def _greatest_change(self) -> float | None:
        """From the first step to the last, relative to the mean loss, noise included; None if it cannot be said."""
        if self._count < STILL_STEPS or self._mean_y <= 0:
            return None
        slope = self._xy / self._xx
        rest = max(0.0, self._yy - slope * self._xy) / (self._count - 2)
        return (abs(slope) + ERRORS * sqrt(rest / self._xx)) * (self._count - 1) / self._mean_y
