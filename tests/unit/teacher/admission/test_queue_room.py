"""How the room in the queue is divided among owners."""

from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.admission.queue_room import QueueRoom


def test_a_full_queue_has_room_for_owners_below_their_share() -> None:
    room = QueueRoom(1000)
    room.hold("heavy", 3, 600)
    room.hold("light", 1, 390)
    assert room.has_room("light", 1, 10)
    assert not room.has_room("light", 1, 11)
    assert room.has_room("heavy", 3, 150)  # three quarters of 1000
    assert not room.has_room("heavy", 3, 151)
    assert room.has_room("new", 4, 500)
    assert not room.has_room("new", 4, 501)


def test_a_weight_that_changes_counts_from_then_on() -> None:
    room = QueueRoom(100)
    room.hold("a", 1, 50)
    room.hold("b", 1, 40)
    room.hold("b", 4, 10)
    assert room.has_room("b", 4, 30)
    assert not room.has_room("b", 4, 31)


held = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 100), st.integers(1, 100)), max_size=30)


@given(held)
def test_all_room_returns(holds: list[tuple[str, float, int]]) -> None:
    room = QueueRoom(100)
    for owner, weight, tokens in holds:
        room.hold(owner, weight, tokens)
    for owner, _, tokens in holds:
        room.free(owner, tokens)
    assert (room.tokens, room.owners) == (0, {})
    room.hold("d", 1, 60)  # an owner alone has all of the room: no weight is left over
    assert room.has_room("d", 1, 40)
    room.hold("e", 1, 40)
    assert room.has_room("e", 1, 10)
    assert not room.has_room("e", 1, 11)
