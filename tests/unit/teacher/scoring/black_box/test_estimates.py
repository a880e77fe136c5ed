"""The two estimators' maths: closed forms, bounds that hold, and intervals that cover 1,000 simulated sets."""

from math import log

import numpy as np
import pytest

from pad_teacher.scoring.black_box.estimates import VoteRule, from_letters, posterior

EULER = 0.5772156649015329


def test_the_mean_logarithm_is_the_posteriors() -> None:
    """ψ(1/2) = -γ - 2 ln 2, ψ(3/2) = ψ(1/2) + 2 and ψ(2) = 1 - γ."""
    found = posterior((1, 0))
    of_half = -EULER - 2 * log(2)
    assert found.mean_log == pytest.approx([of_half + 2 - (1 - EULER), of_half - (1 - EULER)], abs=1e-12)
    assert found.mean == pytest.approx([0.75, 0.25])


def test_the_posterior_is_that_of_samples() -> None:
    rng = np.random.default_rng(0)
    counts = (7, 0, 3, 2)
    drawn = rng.dirichlet(np.array(counts) + 0.5, 400_000)
    found = posterior(counts)
    assert found.mean == pytest.approx(drawn.mean(0), abs=2e-3)
    assert found.mean_log == pytest.approx(np.log(drawn).mean(0), abs=2e-2)
    assert found.lowest == pytest.approx(np.quantile(drawn, 0.025, axis=0), abs=3e-3)
    assert found.highest == pytest.approx(np.quantile(drawn, 0.975, axis=0), abs=3e-3)


def cyclic_choices(rng: np.random.Generator, n: int, bias: float) -> np.ndarray:
    """Probabilities of the options in each rotation, [orders, n], of a teacher that may prefer some letters."""
    worth, letters = rng.normal(size=n), bias * rng.normal(size=n)
    rows = np.zeros((n, n))
    for k in range(n):
        order = np.roll(np.arange(n), -k)
        rows[k, order] = np.exp(worth[order] + letters)
    return rows / rows.sum(1, keepdims=True)


def voted(rng: np.random.Generator, choices: np.ndarray, rule: VoteRule) -> tuple[int, ...]:
    """Votes in rounds until the rule ends them."""
    orders, n = choices.shape
    counts = np.zeros(n, int)
    for number in range(1, rule.rounds(orders) + 1):
        for row in choices:
            counts[rng.choice(n, p=row)] += 1
        if number >= rule.first_rounds(n, orders) and rule.is_enough(tuple(counts.tolist())):
            break
    return tuple(counts.tolist())


@pytest.mark.parametrize(
    ("rule", "bias"),
    [(VoteRule(16, 0.3), 0.0), (VoteRule(32, 0.3), 0.0), (VoteRule(32, 0.3), 1.0), (VoteRule(16, 0.0), 0.0)],
)
def test_intervals_cover_the_truth_of_1000_sets(rule: VoteRule, bias: float) -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        choices = cyclic_choices(rng, 4, bias)
        found = posterior(voted(rng, choices, rule))
        truth = choices.mean(0)
        covered += [low <= p <= high for low, p, high in zip(found.lowest, truth, found.highest, strict=True)]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_vote_ends_by_the_width_alone() -> None:
    """A best option that is settled is no end while another interval is wide."""
    rule = VoteRule(64, 0.3)
    assert not rule.is_enough((9, 1, 1, 1))
    assert rule.is_enough((30, 10, 10, 10))


def test_no_round_is_too_many_before_it_is_looked_at() -> None:
    rule = VoteRule(64, 0.3)
    first = rule.first_rounds(4, 4)
    assert rule.is_enough((4 * first, 0, 0, 0))
    assert not rule.is_enough((4 * (first - 1), 0, 0, 0))
    assert VoteRule(16, 0.0).first_rounds(4, 4) == 4
    assert VoteRule(2, 0.3).rounds(12) == 1, "every order has one vote at least"


def returned(chances: np.ndarray, top: int) -> list[float]:
    """What an API that returns ``top`` tokens says of the first three of ``chances``, which are letters."""
    kept = np.argsort(-chances)[:top]
    letters = [float(chances[i]) if i in kept else 0.0 for i in range(3)]
    return [*letters, float(1 - chances[kept].sum()), float(chances[kept].min())]


def test_bounds_hold_whatever_was_not_returned() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        chances = rng.dirichlet([0.4] * 30)
        found = from_letters(returned(chances, 8))
        if found is None:
            continue
        truth = chances[:3] / chances[:3].sum()
        for i, (low, value, high) in enumerate(zip(found.lowest, found.values, found.highest, strict=True)):
            assert low - 1e-12 <= truth[i] <= high + 1e-12
            assert 0 < value < 1
            assert low - 1e-12 <= value <= high + 1e-12


def test_letters_that_were_all_returned_are_renormalised() -> None:
    found = from_letters([0.6, 0.2, 0.1, 1e-6])
    assert found is not None
    assert found.values == pytest.approx([0.75, 0.25])
    assert found.label_mass == pytest.approx(0.8)
    assert found.unreturned == pytest.approx(0.1)


def test_without_any_letter_there_is_no_choice() -> None:
    assert from_letters([0.0, 0.0, 0.2, 0.01]) is None
