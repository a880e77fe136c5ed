"""Keys of rows: equal exactly if the score must be equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.cache.row_keys import join_rows, row_keys, split_rows, subset
from pad_teacher.engines.queries import Echo, EchoLogprobs, Query, Questions, TokenSet
from support.fakes import FakeEngine

ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4)
queries = st.one_of(
    st.builds(TokenSet, ids, st.lists(ids, min_size=1, max_size=3)),
    st.builds(Questions, st.lists(ids, min_size=1, max_size=3), ids),
    st.builds(Echo, ids, st.integers(1, 3), st.booleans()),
)


def rows_of(query: Query) -> list[tuple[object, ...]]:
    """All that the value of each row depends on, spelled out."""
    match query:
        case TokenSet(prompt, responses):
            return [("response", tuple(prompt), tuple(response)) for response in responses]
        case Questions(prompts, labels):
            return [("question", tuple(labels), tuple(prompt)) for prompt in prompts]
        case Echo(text, top, everywhere):
            return [("echo", top, everywhere, tuple(text))]


@given(queries, queries)
def test_rows_have_the_same_key_exactly_if_they_are_the_same(one: Query, other: Query) -> None:
    for key, row in zip(row_keys(b"t", one), rows_of(one), strict=True):
        for other_key, other_row in zip(row_keys(b"t", other), rows_of(other), strict=True):
            assert (key == other_key) == (row == other_row)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TokenSet([1, 2], [[3]]), TokenSet([1], [[2, 3]])),
        (TokenSet([1], [[2]]), Questions([[2]], [1])),
        (Echo([1], 1, True), Echo([1], 1, False)),
        (Echo([1], 1, True), Echo([1], 2, True)),
    ],
)
def test_rows_that_look_alike_are_told_apart(one: Query, other: Query) -> None:
    assert row_keys(b"t", one) != row_keys(b"t", other)


def test_another_scorer_has_other_keys() -> None:
    query = TokenSet([1], [[2]])
    assert row_keys(b"one", query) != row_keys(b"other", query)
    assert row_keys(b"1", query) != row_keys(b"11", query)


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("top", [1, 3])
@pytest.mark.parametrize("text", [[65], [65, 66, 67]])
def test_an_echo_is_the_same_after_it_was_a_row(text: list[int], top: int, everywhere: bool) -> None:
    query = Echo(text, top, everywhere)
    (answer,) = FakeEngine().score([query])
    assert isinstance(answer, EchoLogprobs)
    again = join_rows(query, iter(split_rows(answer)))
    assert isinstance(again, EchoLogprobs)
    for name in EchoLogprobs.__slots__:
        assert getattr(again, name).dtype == getattr(answer, name).dtype
        assert np.array_equal(getattr(again, name), getattr(answer, name))


def test_some_rows_of_a_query_are_a_smaller_query() -> None:
    tokens = TokenSet([1, 2], [[3], [4, 5], [6]])
    assert subset(tokens, [1]) == TokenSet([1, 2], [[4, 5]])
    assert subset(tokens, [1]).cost == 4
    questions = Questions([[1, 2], [1, 3]], [9])
    assert subset(questions, [1]) == Questions([[1, 3]], [9])
    assert subset(questions, [1]).cost == 2
    echo = Echo([1], 1, True)
    assert subset(echo, [0]) is echo
    assert subset(tokens, [0, 1, 2]) is tokens
