"""Turns in the reading thread: shares by weight, newcomers, and what an owner did before."""

import pytest

from pad_teacher.runtime.turns import MAX_REMEMBERED, Turns


def served(turns: Turns[int], weights: dict[str, float], count: int) -> list[str]:
    """The owners of the next turns of a second each; all of them have work without end."""
    order: list[str] = []
    for _ in range(count):
        owner, item = turns.take()
        turns.charge(owner, weights[owner], 1.0)
        turns.add(owner, weights[owner], item, first=True)
        order.append(owner)
    return order


def test_owners_have_time_by_their_weights() -> None:
    turns, weights = Turns[int](), {"light": 1.0, "heavy": 3.0}
    for owner, weight in weights.items():
        turns.add(owner, weight, 0)
    order = served(turns, weights, 400)
    assert abs(order.count("heavy") - 300) <= 2


def test_works_of_one_owner_come_in_their_order() -> None:
    turns = Turns[int]()
    for item in range(3):
        turns.add("one", 1.0, item)
    assert [turns.take()[1] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError):
        turns.take()


def test_a_newcomer_waits_for_one_turn_at_most() -> None:
    turns, weights = Turns[int](), {"busy": 1.0, "new": 1.0}
    turns.add("busy", 1.0, 0)
    served(turns, weights, 100)
    turns.add("new", 1.0, 0)
    assert "new" in served(turns, weights, 2)


def test_time_that_was_not_used_is_not_saved_up() -> None:
    turns, weights = Turns[int](), {"busy": 1.0, "back": 1.0}
    turns.add("back", 1.0, 0)
    turns.take()
    turns.add("busy", 1.0, 0)
    served(turns, weights, 100)
    turns.add("back", 1.0, 0)
    assert abs(served(turns, weights, 20).count("back") - 10) <= 1


def test_overuse_carries_over() -> None:
    turns, weights = Turns[int](), {"greedy": 1.0, "polite": 1.0}
    turns.add("polite", 1.0, 0)
    turns.add("greedy", 1.0, 0)
    assert turns.take()[0] == "polite"
    turns.charge("polite", 1.0, 1.0)
    turns.add("polite", 1.0, 0)
    assert turns.take()[0] == "greedy"
    turns.charge("greedy", 1.0, 10.0)  # one long step, and nothing of it waits any more
    turns.add("greedy", 1.0, 0)
    assert served(turns, weights, 9) == ["polite"] * 9


def test_owners_without_number_are_forgotten() -> None:
    turns = Turns[int]()
    for number in range(3 * MAX_REMEMBERED):
        turns.add(f"job{number}", 1.0, number)
        owner, _ = turns.take()
        turns.charge(owner, 1.0, 0.001)
    turns.add("last", 1.0, 0)
    assert turns.take() == ("last", 0)


def test_time_counts_while_more_of_the_owner_waits() -> None:
    turns: Turns[str] = Turns()
    for item in ("first", "second"):
        turns.add("greedy", 1, item)
    owner, _ = turns.take()
    turns.add("polite", 1, "short")
    turns.charge(owner, 1, 5.0)
    assert [turns.take()[1] for _ in range(2)] == ["short", "second"]


@pytest.mark.parametrize("more", [False, True])
def test_a_paused_owner_has_no_turn_for_a_while(more: bool) -> None:
    turns: Turns[str] = Turns()
    for item in ("first", "second") if more else ("first",):
        turns.add("greedy", 1, item)
    assert turns.take(10.0)[1] == "first"
    turns.pause("greedy", 5.0, 10.0)
    if not more:
        turns.add("greedy", 1, "second")
    assert turns.seconds_to_next(12.0) == 3.0
    turns.add("polite", 0.001, "short")
    assert turns.seconds_to_next(12.0) == 0
    assert turns.take(12.0)[1] == "short"
    with pytest.raises(LookupError):
        turns.take(14.9)
    assert turns.take(15.0)[1] == "second"
    assert len(turns) == 0
    assert turns.seconds_to_next(15.0) == 0
