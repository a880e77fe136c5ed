"""Bootstrap intervals: they cover the mean, follow groups and pairs, and refuse what has no interval."""

import math
import random

import pytest

from pad_student.errors import EvaluationError
from pad_student.evaluation.bootstrap import interval, paired_gain


def test_an_interval_is_near_that_of_a_normal_mean() -> None:
    drawn = random.Random(0)
    values = [drawn.gauss(1, 2) for _ in range(400)]
    mean = sum(values) / len(values)
    half = 1.96 * math.sqrt(sum((value - mean) ** 2 for value in values)) / len(values)
    low, high = interval([[value] for value in values])
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)


def test_values_of_one_group_are_drawn_together() -> None:
    spread = [[0.0, 1.0] for _ in range(50)]
    alike = [[float(k % 2)] * 2 for k in range(50)]
    assert interval(spread) == (0.5, 0.5)
    low, high = interval(alike)
    assert low < 0.4 < 0.6 < high


def test_an_equal_rise_of_every_prompt_is_certain() -> None:
    before = {str(k): k / 10 for k in range(10)}
    gain = paired_gain(before, {name: value + 0.5 for name, value in before.items()})
    assert (gain.gain, gain.low, gain.high, gain.prompts) == pytest.approx((0.5, 0.5, 0.5, 10))
    assert (gain.before, gain.after) == pytest.approx((0.45, 0.95))


def test_prompts_are_paired_by_their_id() -> None:
    gain = paired_gain({"a": 0.0, "b": 1.0}, {"b": 1.25, "a": 0.25})
    assert (gain.low, gain.high) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ({"a": 0.0, "b": 0.0}, {"a": 0.0}, "only one of the two measurements has the prompt 'b'"),
        ({}, {}, "at least one group"),
        ({"a": 0.0}, {"a": math.nan}, "not finite"),
    ],
)
def test_what_has_no_paired_gain_is_refused(
    before: dict[str, float], after: dict[str, float], complaint: str
) -> None:
    with pytest.raises(EvaluationError, match=complaint):
        paired_gain(before, after)


def test_a_group_without_values_is_refused() -> None:
    with pytest.raises(EvaluationError, match="values in each group"):
        interval([[1.0], []])
