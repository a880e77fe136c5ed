"""Multiple choice: its orders, the average of its answers, and how far they disagree."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.scoring.questions import MAX_ORDERS, TooManyOrders, combine, question_orders

log_probs = st.floats(-60, 0)


@given(st.integers(2, 26))
def test_cyclic_orders_show_each_response_once_in_each_place(n: int) -> None:
    orders = question_orders(n, "listwise", "cyclic")
    assert len(orders) == n
    for place in range(n):
        assert sorted(order[place] for order in orders) == list(range(n))


@given(st.integers(2, 26))
def test_both_orders_are_as_given_and_reversed(n: int) -> None:
    forward, backward = question_orders(n, "listwise", "both")
    assert forward == tuple(range(n))
    assert backward == forward[::-1]


def test_all_orders_are_all_permutations_up_to_a_limit() -> None:
    assert sorted(question_orders(4, "listwise", "all")) == sorted(permutations(range(4)))
    assert len(question_orders(5, "listwise", "all")) == MAX_ORDERS
    with pytest.raises(TooManyOrders):
        question_orders(6, "listwise", "all")


@given(st.integers(2, 12))
def test_pairwise_asks_each_pair_in_both_orders(n: int) -> None:
    for orders in ("cyclic", "both", "all"):
        asked = question_orders(n, "pairwise", orders)  # type: ignore[arg-type]
        assert sorted(asked) == sorted(permutations(range(n), 2))
    assert len(question_orders(n, "pairwise", "single")) == n * (n - 1) // 2


@given(
    st.integers(2, 6).flatmap(lambda n: st.lists(st.lists(log_probs, min_size=n, max_size=n), min_size=n, max_size=n))
)
def test_listwise_probabilities_sum_to_one(rows: list[list[float]]) -> None:
    n = len(rows)
    choice = combine(n, question_orders(n, "listwise", "cyclic"), rows)
    assert math.fsum(choice.selection_probabilities) == pytest.approx(1)
    assert choice.label_mass == pytest.approx(sum(math.exp(v) for row in rows for v in row) / n)


@given(st.lists(log_probs, min_size=3, max_size=3))
def test_a_bias_for_letters_cancels_over_cyclic_orders(bias: list[float]) -> None:
    choice = combine(3, question_orders(3, "listwise", "cyclic"), [bias] * 3)
    assert choice.selection_probabilities == pytest.approx([1 / 3] * 3)


def test_a_bias_for_a_letter_cancels_over_both_orders() -> None:
    asked = question_orders(2, "pairwise", "both")
    choice = combine(2, asked, [[math.log(0.6), math.log(0.2)], [math.log(0.6), math.log(0.2)]])
    assert choice.selection_probabilities == pytest.approx([0.5, 0.5])
    assert choice.label_mass == pytest.approx(0.8)


def test_pairwise_is_the_mean_chance_to_win_a_pair() -> None:
    wins = {(0, 1): 0.9, (0, 2): 0.8, (1, 2): 0.7}
    asked = question_orders(3, "pairwise", "single")
    choice = combine(3, asked, [[math.log(wins[a, b]), math.log(1 - wins[a, b])] for a, b in asked])
    assert choice.selection_probabilities == pytest.approx([(0.9 + 0.8) / 2, (0.1 + 0.7) / 2, (0.2 + 0.3) / 2])


def test_letters_of_tiny_probability_still_renormalise() -> None:
    choice = combine(2, [(0, 1)], [[-800.0, -801.0]])
    assert choice.selection_probabilities == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])
    assert choice.label_mass == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_letter_without_a_finite_probability_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        combine(2, [(0, 1)], [[-1.0, value]])


def test_orders_that_agree_disagree_by_nothing() -> None:
    choice = combine(2, [(0, 1), (1, 0)], [[math.log(0.8), math.log(0.2)], [math.log(0.2), math.log(0.8)]])
    assert choice.order_disagreement == pytest.approx(0)


def test_disagreement_is_the_largest_total_variation_of_two() -> None:
    answers = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.3, 0.3, 0.4]]  # by letter, of the rotations 012, 120, 201
    asked = question_orders(3, "listwise", "cyclic")
    by_response = [dict(zip(order, row, strict=True)) for order, row in zip(asked, answers, strict=True)]
    largest = max(sum(abs(a[i] - b[i]) for i in range(3)) / 2 for a in by_response for b in by_response)
    choice = combine(3, asked, [[math.log(p) for p in row] for row in answers])
    assert choice.order_disagreement == pytest.approx(largest)


def test_pairs_disagree_where_a_swap_changes_the_winner() -> None:
    always_first = [[math.log(0.9), math.log(0.1)]] * 2
    assert combine(2, [(0, 1), (1, 0)], always_first).order_disagreement == pytest.approx(0.8)


def test_one_order_alone_cannot_disagree() -> None:
    assert combine(2, [(0, 1)], [[-1.0, -1.0]]).order_disagreement is None
