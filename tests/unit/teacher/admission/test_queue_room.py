from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.admission.queue_room import Places


def test_a_full_queue_has_room_for_who_holds_less_than_its_weights_share() -> None:
    places = Places(1000)
    places.hold("heavy", 3, 600)
    places.hold("light", 1, 390)
    assert places.has_room("light", 1, 10)
    assert not places.has_room("light", 1, 11)
    assert places.has_room("heavy", 3, 150)  # three quarters of 1000
    assert not places.has_room("heavy", 3, 151)
    assert places.has_room("new", 4, 500)
    assert not places.has_room("new", 4, 501)


def test_a_weight_that_changes_counts_from_then_on() -> None:
    places = Places(100)
    places.hold("a", 1, 50)
    places.hold("b", 1, 40)
    places.hold("b", 4, 10)
    assert places.has_room("b", 4, 30)
    assert not places.has_room("b", 4, 31)


held = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 100), st.integers(1, 100)), max_size=30)


@given(held)
def test_places_return_to_zero(holds: list[tuple[str, float, int]]) -> None:
    places = Places(100)
    for owner, weight, tokens in holds:
        places.hold(owner, weight, tokens)
    for owner, _, tokens in holds:
        places.free(owner, tokens)
    assert (places.tokens, places._weight, places._weights, places._held) == (0, 0.0, {}, {})
