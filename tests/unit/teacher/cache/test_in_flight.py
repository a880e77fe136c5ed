"""Units in flight: requests that ask for the same rows join the same unit."""

from pad_teacher.cache.in_flight import InFlight, Unit
from pad_teacher.engines.queries import TokenSet

QUERY = TokenSet([1], [[2, 3]])


def test_a_unit_is_joined_by_the_same_rows_and_no_others() -> None:
    in_flight = InFlight()
    unit, shared = in_flight.join([b"a", b"b"], QUERY)
    assert not shared
    assert in_flight.join([b"a", b"b"], QUERY) == (unit, True)
    assert in_flight.join([b"b", b"a"], QUERY)[0] is not unit


def test_a_unit_is_forgotten_once_nobody_holds_it() -> None:
    in_flight = InFlight()
    unit, _ = in_flight.join([b"a"], QUERY)
    assert in_flight.units == [unit]
    del unit
    assert in_flight.units == []


def test_the_first_turn_pays_and_the_first_after_one_let_go() -> None:
    unit = Unit((b"a",), QUERY)
    assert (unit.claim(), unit.claim()) == (True, False)
    unit.unclaim()
    assert unit.claim()
