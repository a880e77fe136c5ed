"""Keys of rows: equal exactly if the score must be equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.cache.row_keys import answers_for, depth, join_rows, row_keys, split_rows, subset
from pad_teacher.engines.queries import AnyQuery, ChatQuestion, Echo, EchoLogprobs, NextTokens, Questions, TokenSet
from support.fakes import FakeEngine

ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4)
sets = st.builds(TokenSet, ids, st.lists(ids, min_size=1, max_size=3))


@st.composite
def given_ids(draw: st.DrawFn) -> NextTokens:
    tokens, width = draw(sets), draw(st.integers(1, 2))
    at = [np.array([draw(st.permutations([1, 2]))[:width] for _ in ids]) for ids in tokens.response_ids]
    return NextTokens(tokens, width, 300, at, draw(st.booleans()))


turns = st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text(max_size=2)), max_size=2).map(tuple)
queries = st.one_of(
    sets,
    st.builds(NextTokens, sets, st.integers(1, 9), st.integers(200, 201), st.none(), st.booleans()),
    given_ids(),
    st.builds(Questions, st.lists(ids, min_size=1, max_size=3), ids),
    st.builds(Echo, ids, st.integers(1, 3), st.booleans()),
    st.builds(ChatQuestion, turns, st.text(max_size=2), st.integers(2, 3), st.none() | st.integers(0, 2)),
)


def rows_of(query: AnyQuery) -> list[tuple[object, ...]]:
    """All that the value of each row depends on, spelled out."""
    match query:
        case TokenSet(prompt, responses):
            return [("response", tuple(prompt), tuple(response)) for response in responses]
        case NextTokens(tokens, _, below, None, reference):
            return [("next", tuple(tokens.prompt_ids), tuple(r), below, reference) for r in tokens.response_ids]
        case NextTokens(tokens, _, _, at, reference):
            pairs = zip(tokens.response_ids, at or [], strict=True)
            return [("at", tuple(tokens.prompt_ids), tuple(r), str(ids.tolist()), reference) for r, ids in pairs]
        case Questions(prompts, labels):
            return [("question", tuple(labels), tuple(prompt)) for prompt in prompts]
        case ChatQuestion(said, begun, labels, vote):
            return [("chat", said, begun, labels, vote)]
        case Echo(text, top, everywhere):
            return [("echo", top, everywhere, tuple(text))]


@given(queries, queries)
def test_rows_have_the_same_key_exactly_if_they_are_the_same(one: AnyQuery, other: AnyQuery) -> None:
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
def test_rows_that_look_alike_are_told_apart(one: AnyQuery, other: AnyQuery) -> None:
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


def test_a_distribution_of_many_ids_answers_for_one_of_few() -> None:
    tokens = TokenSet([1], [[2, 3], [4]])
    wide, narrow = NextTokens(tokens, 9, 262), NextTokens(tokens, 4, 262)
    assert row_keys(b"t", wide) == row_keys(b"t", narrow)
    assert depth(wide) != depth(narrow)
    rows = split_rows(FakeEngine().score([wide])[0])
    assert all(answers_for(narrow, j, row) and answers_for(wide, j, row) for j, row in enumerate(rows))
    assert not answers_for(NextTokens(tokens, 10, 262), 0, rows[0])


def test_some_rows_at_given_ids_keep_their_ids() -> None:
    at = [np.array([[5]]), np.array([[6]])]
    query = NextTokens(TokenSet([1], [[2], [3]]), 1, 262, at)
    fewer = subset(query, [1])
    assert isinstance(fewer, NextTokens)
    assert fewer.at == [at[1]]
    assert fewer.tokens.response_ids == [[3]]
