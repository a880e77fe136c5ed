"""The prefix tree of a batch of rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.engines.embedded import prefix_tree
from pad_teacher.engines.embedded.prefix_tree import pack
from pad_teacher.engines.embedded.rows import MIN_SHARED

tokens = st.integers(0, 2)
stems = st.lists(st.lists(tokens, min_size=1, max_size=40), min_size=1, max_size=4)


@st.composite
def families(draw: st.DrawFn) -> list[np.ndarray]:
    """Rows that begin with one of a few stems, some of them the stem of a stem, some equal."""
    known = draw(stems)
    known += [draw(st.sampled_from(known)) + draw(st.lists(tokens, max_size=30)) for _ in range(3)]
    picks = st.tuples(st.sampled_from(known), st.lists(tokens, max_size=30))
    return [np.array(a + b) for a, b in draw(st.lists(picks, min_size=1, max_size=8))]


@given(families())
def test_every_row_reads_as_it_was_with_positions_from_zero(rows: list[np.ndarray]) -> None:
    tree = pack(rows)
    for row, places in zip(rows, tree.places, strict=True):
        assert (tree.ids_T[places] == row).all()
        assert (tree.positions_T[places] == np.arange(len(row))).all()


@given(families())
def test_a_token_sees_exactly_what_stands_before_it_in_its_row(rows: list[np.ndarray]) -> None:
    tree = pack(rows)
    sees = np.zeros((len(tree.ids_T), len(tree.ids_T)), bool)
    for node in tree.nodes:
        length = node.stop - node.start
        sees[node.start : node.stop, node.start : node.stop] = np.tri(length, dtype=bool)
        sees[node.stop : node.below, node.start : node.stop] = True
    for places in tree.places:
        for k, place in enumerate(places):
            assert np.flatnonzero(sees[place]).tolist() == sorted(places[: k + 1].tolist())


@given(families())
def test_nodes_are_in_order_and_know_the_largest_position_below(rows: list[np.ndarray]) -> None:
    tree = pack(rows)
    assert [node.start for node in tree.nodes[1:]] == [node.stop for node in tree.nodes[:-1]]
    for node in tree.nodes:
        assert node.deepest == tree.positions_T[node.start : node.below].max()
        assert tree.positions_T[node.start] == node.position
        assert node.depth <= prefix_tree.MAX_DEPTH


def test_a_prompt_stands_once_and_equal_rows_stand_once() -> None:
    prompt, answers = np.arange(100), [np.full(7, 200), np.full(9, 300), np.full(7, 200)]
    tree = pack([np.concatenate([prompt, answer]) for answer in answers])
    assert len(tree.ids_T) == 100 + 7 + 9


def test_pairs_of_options_share_their_first_option_too() -> None:
    stem, options = np.arange(40), [np.full(30, 100 + i) for i in range(3)]
    pairs = [np.concatenate([stem, options[i], options[j]]) for i in range(3) for j in range(3) if i != j]
    assert len(pack(pairs).ids_T) == 40 + 3 * 30 + 6 * 30


def test_a_beginning_too_short_to_be_worth_a_step_is_repeated() -> None:
    rows = [np.concatenate([np.arange(MIN_SHARED - 1), np.full(5, 50 + i)]) for i in range(2)]
    assert len(pack(rows).ids_T) == sum(map(len, rows))
