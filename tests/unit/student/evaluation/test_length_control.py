"""The length-controlled win rate: the fit's optimum, what it takes off, and preferences without a finite fit."""

import math
import random

import numpy as np
import pytest

from pad_student.errors import EvaluationError
from pad_student.evaluation.length_control import RIDGE, length_controlled


def made(theta: float, weight: float, pairs: int = 4000) -> tuple[list[float], list[tuple[int, int]]]:
    """Preferences of a judge who likes the model by ``theta`` and length by ``weight``."""
    drawn = random.Random(0)
    lengths = [(round(drawn.gauss(300, 60)), round(drawn.gauss(250, 60))) for _ in range(pairs)]
    spread = float(np.std([a - b for a, b in lengths]))
    logits = [theta + weight * math.tanh((a - b) / spread) for a, b in lengths]
    return [1 / (1 + math.exp(-each)) for each in logits], lengths


def test_a_judges_liking_of_length_is_taken_off() -> None:
    preferences, lengths = made(-0.4, 2.0)
    assert sum(preferences) / len(preferences) > 0.5
    found = length_controlled(preferences, lengths)
    assert found.win_rate == pytest.approx(1 / (1 + math.exp(0.4)), abs=0.002)
    assert found.length_weight == pytest.approx(2.0, abs=0.02)


def test_the_fit_is_where_the_gradient_vanishes() -> None:
    preferences, lengths = made(0.7, -1.0, pairs=50)
    found = length_controlled(preferences, lengths)
    spread = float(np.std([a - b for a, b in lengths]))
    gradient = [RIDGE / 100 * found.theta, RIDGE * found.length_weight]
    for preference, (ours, theirs) in zip(preferences, lengths, strict=True):
        feature = math.tanh((ours - theirs) / spread)
        miss = 1 / (1 + math.exp(-found.theta - found.length_weight * feature)) - preference
        gradient[0] += miss / 50
        gradient[1] += miss * feature / 50
    assert gradient == pytest.approx([0, 0], abs=1e-10)


def test_equal_lengths_leave_the_mean_preference() -> None:
    assert length_controlled([0.9, 0.5], [(10, 10), (40, 40)]).win_rate == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_preferences_that_are_all_alike_have_a_finite_fit(value: float) -> None:
    found = length_controlled([value] * 20, [(k, 2 * k) for k in range(20)])
    assert math.isfinite(found.theta)
    assert found.win_rate == pytest.approx(value, abs=0.01)


def test_preferences_that_length_separates_have_a_finite_fit() -> None:
    lengths = [(10, 20)] * 10 + [(20, 10)] * 10
    found = length_controlled([0.0] * 10 + [1.0] * 10, lengths)
    assert found.win_rate == pytest.approx(0.5, abs=1e-6)
    assert 3 < found.length_weight < 30


@pytest.mark.parametrize("preferences", [[], [1.2], [math.nan]])
def test_what_is_no_preference_is_refused(preferences: list[float]) -> None:
    with pytest.raises(EvaluationError, match="preferences from 0 to 1"):
        length_controlled(preferences, [(1, 2)] * len(preferences))
