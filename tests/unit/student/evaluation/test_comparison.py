"""Comparing two methods: pairs by prompt and seed, intervals that cover, and McNemar's exact test."""

import math
import random
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from pad_student.errors import EvaluationError
from pad_student.evaluation.comparison import CRITICAL, POWER, Grades, gain, mcnemar


def one(**grades: float) -> Grades:
    return {name: [grade] for name, grade in grades.items()}


def test_an_equal_rise_everywhere_is_certain() -> None:
    a = [one(p=0.1, q=0.4), one(p=0.3, q=0.2)]
    found = gain(a, [{name: [grade + 0.25 for grade in grades] for name, grades in seed.items()} for seed in a])
    assert (found.a, found.b, found.gain) == pytest.approx((0.25, 0.5, 0.25))
    assert (found.low, found.high, found.smallest) == pytest.approx((0.25, 0.25, 0), abs=1e-12)
    assert (found.prompts, found.seeds) == (2, 2)


def test_a_prompt_counts_by_the_mean_of_its_responses() -> None:
    assert gain([{"p": [0.0, 1.0], "q": [0.0]}], [{"p": [1.0], "q": [0.0]}]).gain == 0.25


def test_of_one_seed_the_error_is_that_of_paired_prompts() -> None:
    drawn = random.Random(0)
    a = {str(k): [drawn.gauss(0, 5)] for k in range(300)}
    b = {name: [grades[0] + drawn.gauss(0.5, 1)] for name, grades in a.items()}
    gains = np.array([b[name][0] - a[name][0] for name in a])
    found = gain([a], [b])
    assert found.standard_error == pytest.approx(gains.std() / math.sqrt(300), rel=0.05)
    assert found.smallest == pytest.approx(2.8016 * found.standard_error, rel=1e-4)


def test_seeds_that_differ_widen_the_interval() -> None:
    a = [one(**{f"p{k}": 0.0 for k in range(50)}) for _ in range(3)]
    alike = [{name: [0.5] for name in a[0]} for _ in range(3)]
    apart = [{name: [value] for name in a[0]} for value in (0.0, 0.5, 1.0)]
    assert gain(a, alike).standard_error == pytest.approx(0, abs=1e-12)
    assert gain(a, apart).standard_error == pytest.approx(math.sqrt(0.5 / 3 / 3), rel=0.05)


def test_an_interval_covers_the_truth_95_times_in_100() -> None:
    drawn = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        gains = drawn.normal(0.1, 1, size=60)
        found = gain([{str(k): [0.0] for k in range(60)}], [{str(k): [float(v)] for k, v in enumerate(gains)}])
        covered += found.low <= 0.1 <= found.high
    assert 180 <= covered <= 199


def test_the_constants_are_normal_quantiles() -> None:
    assert (NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)) == pytest.approx((CRITICAL, POWER))


def test_mcnemar_is_the_exact_probability_of_the_split() -> None:
    a = one(p=1, q=0, r=0, s=0, t=1, u=1)
    b = one(p=0, q=1, r=1, s=1, t=1, u=1)
    found = mcnemar([a], [b])
    assert found
    heads = [sum(sides) for sides in product((0, 1), repeat=4)]  # every split of the four pairs, by enumeration
    expected = sum(abs(k - 2) >= 1 for k in heads) / len(heads)
    assert (found.only_a, found.only_b, found.p_value) == (1, 3, expected)


def test_without_a_difference_mcnemars_p_is_one() -> None:
    found = mcnemar([one(p=1)], [one(p=1)])
    assert found
    assert found.p_value == 1


@pytest.mark.parametrize("grades", [[0.5], [1.0, 0.0], [math.nan]])
def test_mcnemar_is_only_for_one_pass_or_fail_a_prompt(grades: list[float]) -> None:
    assert mcnemar([{"p": grades}], [{"p": [1.0]}]) is None


@pytest.mark.parametrize(
    ("a", "b", "complaint"),
    [
        ([one(p=1)], [one(q=1)], "compare the same prompts, seed by seed"),
        ([one(p=1)], [one(p=1), one(p=1)], "numbers of seeds"),
        ([one(p=1), one(q=1)], [one(p=1), one(q=1)], "seeds of one method have other prompts"),
        ([], [], "at least one prompt"),
        ([{"p": []}], [{"p": []}], "a grade for each prompt"),
        ([one(p=math.inf)], [one(p=1)], "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: list[Grades], b: list[Grades], complaint: str) -> None:
    with pytest.raises(EvaluationError, match=complaint):
        gain(a, b)
