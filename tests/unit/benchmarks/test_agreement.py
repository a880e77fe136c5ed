"""The comparison of two engines' scores that ``benchmarks.parity`` reports."""

import math
from typing import Any

import numpy as np
import pytest
from benchmarks.harness.agreement import (
    MissingScore,
    NonFiniteScore,
    compare_likelihoods,
    compare_selections,
    mean_log_likelihoods,
    selection_probabilities,
)

SETS: list[dict[str, Any]] = [
    {"response_ids": [[1, 2], [3]], "cyclic": [{"labels": [7, 8]}, {"labels": [7, 8]}]},
    {"response_ids": [[4, 5, 6]], "cyclic": [{"labels": [7]}]},
]


def found() -> dict[str, Any]:
    return {"0.0": [-1.0, -3.0], "0.1": [-4.0], "1.0": [-1.0, -2.0, -6.0]}


def letters() -> dict[str, Any]:
    first, second = np.log([0.3, 0.1]), np.log([0.2, 0.2])
    return {"0.0": first, "0.1": second, "1.0": np.log([0.5])}


def test_scores_are_means_over_each_responses_tokens() -> None:
    assert mean_log_likelihoods(found(), SETS) == [[-2.0, -4.0], [-3.0]]


def test_selection_averages_renormalised_letters_over_rotations() -> None:
    (a, b), (only,) = selection_probabilities(letters(), SETS)
    assert (a, b, only) == pytest.approx(((0.75 + 0.5) / 2, (0.25 + 0.5) / 2, 1.0))


@pytest.mark.parametrize("lacking", [{"0.1": None}, {"1.0": [-1.0, -2.0]}, {"0.1": [-1.0, -1.0]}, {"0.0": []}])
def test_the_error_names_the_row_of_a_missing_token(lacking: dict[str, Any]) -> None:
    ((name, value),) = lacking.items()
    given = {key: values for key, values in (found() | lacking).items() if values is not None}
    with pytest.raises(MissingScore, match=f"set {name[0]}, row {name[2]}: {len(value or [])} of"):
        mean_log_likelihoods(given, SETS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_error_names_the_place_of_a_non_finite_number(value: float) -> None:
    with pytest.raises(NonFiniteScore, match=f"set 1, row 0, place 2: {value}"):
        mean_log_likelihoods(found() | {"1.0": [-1.0, -2.0, value]}, SETS)
    with pytest.raises(NonFiniteScore, match=f"set 0, row 1, place 0: {value}"):
        selection_probabilities(letters() | {"0.1": [value, -1.0]}, SETS)
    for compare in (compare_likelihoods, compare_selections):
        for one, other in ([[0.0, value]], [[0.0, 1.0]]), ([[0.0, 1.0]], [[0.0, value]]):
            with pytest.raises(NonFiniteScore, match=f"set 0, response 1: {value}"):
                compare(one, other)


@pytest.mark.parametrize("other", [[], [[1.0]], [[1.0], [2.0]], [[1.0, 2.0], [3.0]]])
def test_scores_of_other_sets_cannot_be_compared(other: list[list[float]]) -> None:
    for compare in (compare_likelihoods, compare_selections):
        with pytest.raises(MissingScore, match="cannot be compared"):
            compare([[1.0, 2.0]], other)
        with pytest.raises(MissingScore, match="cannot be compared"):
            compare([], [])


def test_differences_are_absolute_and_the_mean_keeps_its_sign() -> None:
    measured = compare_likelihoods([[-1.0, -2.0, -3.0], [-4.0]], [[-1.1, -1.8, -3.0], [-4.4]])
    assert (measured["sets"], measured["responses"]) == (2, 4)
    assert measured["median_nats"] == pytest.approx(0.15)
    assert measured["largest_nats"] == measured["p99_nats"] == pytest.approx(0.4)
    assert measured["mean_signed_nats"] == pytest.approx((0.1 - 0.2 + 0.4) / 4)


def test_the_99th_percentile_of_two_hundred_omits_the_largest() -> None:
    one = [[float(k)] for k in range(200)]
    measured = compare_likelihoods(one, [[0.0]] * 200)
    assert (measured["p99_nats"], measured["largest_nats"]) == (198.0, 199.0)


def test_a_swapped_pair_spoils_its_ranking_and_shows_its_margin() -> None:
    one = [[3.0, 2.0, 1.0], [1.0, 2.0]]
    measured = compare_likelihoods(one, [[2.0, 2.25, 1.0], [5.0, 7.0]])
    assert measured["same_ranking"] == 0.5
    assert measured["same_pairs"] == 0.75
    assert measured["largest_margin_of_a_swapped_pair_nats"] == 0.25
    assert compare_likelihoods(one, one)["largest_margin_of_a_swapped_pair_nats"] == 0.0


def test_a_tie_is_the_same_order_only_as_a_tie() -> None:
    assert compare_likelihoods([[1.0, 1.0]], [[2.0, 2.0]])["same_pairs"] == 1.0
    assert compare_likelihoods([[1.0, 1.0]], [[2.0, 2.5]])["same_pairs"] == 0.0
    assert compare_likelihoods([[1.0, 1.5]], [[2.0, 2.0]])["same_ranking"] == 0.0


def test_selections_agree_if_the_most_probable_is_the_same() -> None:
    measured = compare_selections([[0.6, 0.4], [0.5, 0.5]], [[0.9, 0.1], [0.4, 0.6]])
    assert measured["same_first"] == 0.5
    assert measured["largest"] == pytest.approx(0.3)
    assert measured["median"] == pytest.approx(0.2)
