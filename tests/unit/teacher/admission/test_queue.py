"""The admission queue: room, charges and refusals, without an engine."""

import asyncio

import numpy as np
import pytest

from pad_teacher.admission.budgets import Budgets
from pad_teacher.admission.client import Client
from pad_teacher.admission.keys import KeyLimits
from pad_teacher.admission.queue import AdmissionQueue
from pad_teacher.admission.request import PendingRequest
from pad_teacher.cache.in_flight import Unit
from pad_teacher.engines.queries import TokenSet
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics

pytestmark = pytest.mark.anyio

COST = 10
LIMITS = KeyLimits(tokens_per_day=1000)


class Seconds:
    """A clock that the test moves, and the expected time of a token."""

    def __init__(self) -> None:
        self.now = 100.0
        self.a_token: float | None = None

    def of(self, tokens: int) -> float | None:
        return None if self.a_token is None else tokens * self.a_token


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def budgets() -> Budgets:
    return Budgets()


@pytest.fixture
def queue(budgets: Budgets, seconds: Seconds) -> AdmissionQueue:
    return AdmissionQueue(
        budgets,
        Metrics(),
        max_batch_tokens=2 * COST,
        max_queued_tokens=4 * COST,
        seconds_for=seconds.of,
        clock=lambda: seconds.now,
    )


def unit() -> Unit:
    return Unit((b"a",), TokenSet([1], [[2] * (COST - 1)]))


def request(*units: Unit, key: str = "lab") -> PendingRequest:
    return PendingRequest(Client(key, "job", LIMITS), units or [unit()])


def used(budgets: Budgets, key: str = "lab") -> int:
    return budgets.usage(key, LIMITS).tokens_today


async def test_an_admitted_request_holds_room_until_it_leaves(queue: AdmissionQueue, budgets: Budgets) -> None:
    waiting = request(unit(), unit(), unit())
    queue.admit(waiting, None)
    assert (queue.waiting, queue.tokens, queue.jobs) == (1, 3 * COST, {("lab", "job")})
    assert len(queue.take_batch()) == 2
    assert (queue.waiting, queue.tokens) == (1, COST)
    assert len(queue.take_batch()) == 1
    assert (queue.waiting, queue.tokens, queue.jobs) == (0, 0, set())
    assert used(budgets) == 3 * COST


async def test_a_withdrawn_request_is_given_its_tokens_back(queue: AdmissionQueue, budgets: Budgets) -> None:
    waiting = request(unit(), unit(), unit())
    queue.admit(waiting, None)
    queue.take_batch()
    for _ in range(2):  # the second time there is nothing left
        queue.withdraw(waiting, "client_left")
    assert (queue.waiting, queue.tokens, queue.jobs) == (0, 0, set())
    assert used(budgets) == 2 * COST


async def test_a_unit_paid_for_by_another_comes_along_free(queue: AdmissionQueue, budgets: Budgets) -> None:
    shared = unit()
    first, second = request(shared, key="first"), request(shared, key="second")
    for waiting in (first, second):
        queue.admit(waiting, None)
    shared.result = [np.zeros(9, np.float32)]
    assert [queued.pays for queued in queue.take_batch()] == [True, False]
    assert not second.wanted  # it has the result that was there
    assert (used(budgets, "first"), used(budgets, "second")) == (COST, 0)


async def test_a_full_queue_tells_when_to_come_again(queue: AdmissionQueue, seconds: Seconds) -> None:
    for _ in range(4):
        queue.admit(request(), None)
    for a_token, wait in ((None, 1), (0.01, 1), (0.2, 8), (10.0, 60)):
        seconds.a_token = a_token
        with pytest.raises(Refusal) as caught:
            queue.refuse_if_full(Client("lab", "job", LIMITS))
        assert (caught.value.detail.code, caught.value.retry_after_s) == ("overloaded", wait)
    queue.refuse_if_full(Client("other", "job"))  # it holds less than its share


@pytest.mark.parametrize(
    ("units", "deadline", "code"),
    [(5, None, "too_long"), (1, 99.9, "deadline_exceeded"), (1, 100.0, "deadline_exceeded")],
)
async def test_a_refused_request_costs_nothing(
    queue: AdmissionQueue, budgets: Budgets, units: int, deadline: float | None, code: str
) -> None:
    with pytest.raises(Refusal) as caught:
        queue.admit(request(*(unit() for _ in range(units))), deadline)
    assert caught.value.detail.code == code
    assert (queue.waiting, queue.tokens, used(budgets)) == (0, 0, 0)


async def test_a_closed_queue_admits_nothing_and_still_empties(queue: AdmissionQueue) -> None:
    queue.admit(request(), None)
    queue.close()
    with pytest.raises(Refusal, match="failed"):
        queue.admit(request(), None)
    assert len(queue.take_batch()) == 1
    assert queue.take_batch() == []


async def test_the_next_batch_is_waited_for(queue: AdmissionQueue) -> None:
    batch = asyncio.create_task(queue.next_batch())
    await asyncio.sleep(0)
    assert not batch.done()
    queue.admit(request(), None)
    assert len(await batch) == 1
