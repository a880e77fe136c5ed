"""The admission queue: room, charges and refusals, without an engine."""

import asyncio

import numpy as np
import pytest

from pad_teacher.admission.budgets import Budgets, Clocks
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
STILL = Clocks(lambda: 0.0, lambda: 0.0)


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
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def queue(budgets: Budgets, metrics: Metrics, seconds: Seconds) -> AdmissionQueue:
    return AdmissionQueue(
        budgets,
        metrics,
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
            queue.refuse_unread(Client("lab", "job", LIMITS))
        assert (caught.value.detail.code, caught.value.retry_after_s) == ("overloaded", wait)
    queue.refuse_unread(Client("other", "job"))  # it holds less than its share


async def test_a_request_that_is_read_waits_for_its_own_room(queue: AdmissionQueue, seconds: Seconds) -> None:
    queue.admit(request(unit(), unit(), unit()), None)
    queue.refuse_unread(Client("lab", "job", LIMITS))  # a small one has room
    seconds.a_token = 0.5
    for units, wait in ((2, 5), (3, 10)):  # 10 and 20 tokens too many
        with pytest.raises(Refusal) as caught:
            queue.admit(request(*(unit() for _ in range(units))), None)
        assert (caught.value.detail.code, caught.value.retry_after_s) == ("overloaded", wait)


async def test_a_budgets_refusal_follows_the_requests_own_cost() -> None:
    """Also that of a spent key: it waits for the whole request, or is told to split it."""
    limits = KeyLimits(tokens_per_minute=6 * COST)
    queue = AdmissionQueue(Budgets(clocks=STILL), Metrics(), max_batch_tokens=COST, max_queued_tokens=9 * COST)
    spent = Client("lab", "job", limits)
    queue.admit(PendingRequest(spent, [unit() for _ in range(6)]), None)
    for units, code, wait in ((1, "budget_exceeded", 10), (3, "budget_exceeded", 30), (7, "too_long", None)):
        with pytest.raises(Refusal) as caught:
            queue.admit(PendingRequest(spent, [unit() for _ in range(units)]), None)
        assert (caught.value.detail.code, caught.value.retry_after_s) == (code, wait)
    with pytest.raises(Refusal) as caught:
        queue.refuse_unread(spent)
    assert (caught.value.detail.code, caught.value.retry_after_s) == ("budget_exceeded", 1)


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


async def test_a_reserve_is_held_until_it_is_used_or_released(
    queue: AdmissionQueue, budgets: Budgets, metrics: Metrics
) -> None:
    client = Client("key", "job", LIMITS)
    first = PendingRequest(client, [unit()], reserve=2 * COST)
    queue.admit(first, None)
    assert (queue.tokens, budgets.usage("key", LIMITS).tokens_today) == (3 * COST, 3 * COST)
    with pytest.raises(Refusal, match="full"):
        queue.admit(PendingRequest(client, [unit(), unit()]), None)
    queue.take_batch()
    queue.admit_further(PendingRequest(client, [unit()]), first)
    assert (queue.tokens, first.reserve) == (2 * COST, COST)
    queue.release(first)
    queue.release(first)
    assert (queue.tokens, budgets.usage("key", LIMITS).tokens_today) == (COST, 2 * COST)
    assert metrics.registry.get_sample_value("pad_queued_tokens") == COST


async def test_a_request_that_was_refused_releases_nothing(queue: AdmissionQueue, budgets: Budgets) -> None:
    request = PendingRequest(Client("key", "job", LIMITS), [unit()], reserve=4 * COST)
    with pytest.raises(Refusal, match="split it"):
        queue.admit(request, None)
    queue.release(request)
    assert (queue.tokens, budgets.usage("key", LIMITS).tokens_today) == (0, 0)
