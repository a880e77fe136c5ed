"""Room for requests under way, and memory for their bodies, by key."""

from contextlib import ExitStack

import pytest

from pad_teacher.admission.client import Client
from pad_teacher.api.body import MAX_BODIES, BodyLimits, BodyMemory
from pad_teacher.errors import Refusal

LARGEST = 1000


def memory(requests: int = 100) -> BodyMemory:
    return BodyMemory(BodyLimits(LARGEST, 30, 300, requests))


def test_one_key_may_fill_the_memory_and_another_has_its_share() -> None:
    bodies, greedy, polite = memory(), Client("greedy", ""), Client("polite", "")
    with bodies.of(greedy) as take, bodies.of(polite) as take_polite:
        take(MAX_BODIES * LARGEST)
        with pytest.raises(Refusal, match="large requests"):
            take(1)
        take_polite(MAX_BODIES * LARGEST // 2)
        with pytest.raises(Refusal, match="large requests"):
            take_polite(1)
    assert bodies.is_empty
    with bodies.of(greedy) as take:
        take(MAX_BODIES * LARGEST)


def test_a_body_takes_only_what_has_arrived() -> None:
    bodies = memory()
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(bodies.of(Client("slow", "")))(1)
        assert not bodies.is_empty
    assert bodies.is_empty


def test_a_key_may_have_half_of_the_requests_under_way() -> None:
    """The other half of the connections is for others: the application is given half of ``--max-connections``."""
    bodies, greedy, polite = memory(requests=10), Client("greedy", ""), Client("polite", "")
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(bodies.of(greedy))
        with pytest.raises(Refusal, match="too many requests at once"):
            stack.enter_context(bodies.of(greedy))
        for _ in range(5):
            stack.enter_context(bodies.of(polite))
    assert bodies.is_empty
