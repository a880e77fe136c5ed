"""Queries: their cost in tokens, which is no part of what they ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.engines.queries import Echo, Query, Questions, TokenSet, shared_tokens

ids = st.lists(st.integers(0, 3), max_size=12)


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        (TokenSet([1, 2], [[3], [4, 5]]), 5),  # the prompt once
        (Questions([[1, 2, 3]], [9]), 3),
        (Questions([[1, 2, 3], [1, 2, 4, 5]], [9]), 5),  # the shared beginning once
        (Questions([[1, 2], [3], [1, 2]], [9]), 5),  # it is shared with the question before alone
        (Echo([1, 2, 3], 1, everywhere=True), 3),
    ],
)
def test_a_query_costs_what_the_engine_computes(query: Query, cost: int) -> None:
    assert query.cost == cost


def test_queries_are_equal_if_they_ask_the_same() -> None:
    assert TokenSet([1], [[2]]) == TokenSet([1], [[2]])
    assert "cost" not in repr(TokenSet([1], [[2]]))
    match Questions([[1]], [2]):
        case Questions(prompts, labels):
            assert (prompts, labels) == ([[1]], [2])


@given(ids, ids)
def test_shared_tokens_are_the_longest_common_beginning(one: list[int], other: list[int]) -> None:
    shared = shared_tokens(one, other)
    assert one[:shared] == other[:shared]
    assert one[shared : shared + 1] != other[shared : shared + 1] or shared == len(one) == len(other)
