"""A pending request ends its wait once."""

import numpy as np
import pytest

from pad_teacher.admission.client import Client
from pad_teacher.admission.request import PendingRequest
from pad_teacher.cache.in_flight import Unit
from pad_teacher.engines.queries import TokenSet
from pad_teacher.errors import Refusal

pytestmark = pytest.mark.anyio

QUERY = TokenSet([1], [[2, 3]])


def request(*units: Unit) -> PendingRequest:
    return PendingRequest(Client("", "job"), units)


async def test_a_result_that_comes_twice_counts_once() -> None:
    waiting = request(Unit((b"a",), QUERY), Unit((b"b",), QUERY))
    done = waiting.admit("", 0.0)
    for _ in range(2):
        waiting.answer(0, [np.zeros(2, np.float32)])
    assert not done.done()
    waiting.answer(1, [np.zeros(2, np.float32)])
    assert done.done()


async def test_a_request_is_wanted_from_admission_to_its_end() -> None:
    waiting = request(Unit((b"a",), QUERY))
    assert not waiting.wanted
    waiting.admit("", 0.0)
    assert waiting.wanted
    waiting.fail(Refusal("engine_failed", "gone"))
    assert not waiting.wanted
    waiting.answer(0, [np.zeros(2, np.float32)])  # too late: nothing happens


def test_a_request_waits_for_each_of_its_units() -> None:
    units = [Unit((b"a",), QUERY), Unit((b"b",), QUERY)]
    waiting = request(*units)
    assert [unit.waiters for unit in units] == [[(waiting, 0)], [(waiting, 1)]]
    assert waiting.group.tokens == 2 * QUERY.cost
