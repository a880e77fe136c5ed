"""Work goes to the replica with the least, never to one that is out while another is in, and always comes back."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_student.teacher.replicas import failover
from pad_student.teacher.replicas.pool import PAUSE_INITIAL, PAUSE_MAX, Lease, Pool, Replica


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pool_of(count: int, clock: Clock) -> Pool:
    return Pool(count, clock, lambda: 1.0)


def warm(count: int, clock: Clock) -> Pool:
    """A pool whose replicas have all passed their first trial."""
    pool = pool_of(count, clock)
    for number in range(count):
        pool.give_back(pool.lend(0, number))
    return pool


def state(pool: Pool) -> tuple[Replica, ...]:
    return pool.replicas


def test_each_of_several_is_tried_before_its_first_work(clock):
    pool = pool_of(3, clock)
    first = [pool.lend(1) for _ in range(3)]
    assert [(lease.number, lease.on_trial) for lease in first] == [(0, True), (1, True), (2, True)]
    assert not any(pool.give_back(lease) for lease in first)
    assert not pool.lend(1).on_trial


def test_an_only_replica_is_never_tried_and_never_out(clock):
    pool = pool_of(1, clock)
    for _ in range(5):
        lease = pool.lend(10)
        assert not lease.on_trial
        assert not pool.fail(lease)
        assert pool.until_another(0) == math.inf


def test_the_next_work_goes_where_the_least_is_on_its_way(clock):
    pool = warm(2, clock)
    large = pool.lend(100)
    small = [pool.lend(30) for _ in range(3)]
    assert {lease.number for lease in small} == {1 - large.number}
    pool.give_back(small[0])
    pool.give_back(large)
    assert pool.lend(1).number == large.number


def test_idle_replicas_take_turns(clock):
    pool = warm(3, clock)
    numbers = []
    for _ in range(6):
        lease = pool.lend(1)
        numbers.append(lease.number)
        pool.give_back(lease)
    assert sorted(numbers) == [0, 0, 1, 1, 2, 2]


def test_a_failed_replica_gets_one_trial_from_one_lender(clock):
    pool = warm(2, clock)
    assert pool.fail(pool.lend(1, 0))
    assert [pool.lend(1).number for _ in range(4)] == [1] * 4
    clock.now += PAUSE_INITIAL
    trial = pool.lend(1)
    assert (trial.number, trial.on_trial) == (0, True)
    assert [pool.lend(1).number for _ in range(4)] == [1] * 4
    assert pool.give_back(trial)
    assert pool.lend(1).number == 0


def test_pauses_double_up_to_a_bound_and_restart_after_an_answer(clock):
    pool = warm(2, clock)

    def next_pause() -> float:
        pool.fail(pool.lend(0, 0))
        pause = pool.until_another(1)
        clock.now += pause
        return pause

    pauses = [next_pause() for _ in range(8)]
    assert pauses == [min(PAUSE_MAX, PAUSE_INITIAL * 2**k) for k in range(8)]
    assert pool.give_back(pool.lend(0, 0))
    assert next_pause() == PAUSE_INITIAL


def test_what_fails_together_counts_once(clock):
    pool = warm(2, clock)
    leases = [pool.lend(1, 0) for _ in range(5)]
    assert [pool.fail(lease) for lease in leases] == [True, False, False, False, False]
    assert pool.until_another(1) == PAUSE_INITIAL


def test_a_requested_pause_is_kept_despite_an_older_answer(clock):
    pool = warm(2, clock)
    earlier, refused = pool.lend(1, 0), pool.lend(1, 0)
    pool.fail(refused, 7.0)
    assert not pool.give_back(earlier)
    clock.now += 6.9
    assert pool.lend(1).number == 1
    clock.now += 0.1
    assert pool.lend(1).number == 0


def test_where_all_are_out_the_one_due_first_is_tried(clock):
    pool = warm(3, clock)
    for number, pause in enumerate([9.0, 3.0, 6.0]):
        pool.fail(pool.lend(1, number), pause)
    lease = pool.lend(1)
    assert (lease.number, lease.on_trial) == (1, True)
    assert pool.until_another(1) == 6.0


def test_pauses_are_jittered(clock):
    pool = Pool(2, clock, lambda: 1.2)
    pool.fail(pool.lend(0, 0))
    assert pool.until_another(1) == pytest.approx(1.2 * PAUSE_INITIAL)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lend"), st.integers(0, 50)),
        st.tuples(st.just("answer"), st.integers(0, 99)),
        st.tuples(st.just("fail"), st.integers(0, 99)),
        st.tuples(st.just("refuse"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.floats(0, 30)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(st.integers(1, 4), STEPS)
def test_work_always_comes_back_and_goes_to_working_replicas(count, steps):
    clock = Clock()
    pool, leases = pool_of(count, clock), []
    for step, value in steps:
        match step:
            case "wait":
                clock.now += value
            case "lend":
                leases.append(checked(pool, int(value), clock.now))
            case "answer" if leases:
                pool.give_back(leases.pop(int(value) % len(leases)))
            case "fail" if leases:
                pool.fail(leases.pop(int(value) % len(leases)))
            case "refuse" if leases:
                pool.fail(leases.pop(int(value) % len(leases)), 5.0)
        assert sum(each.outstanding for each in state(pool)) == sum(lease.work for lease in leases)
        trials = {lease.number for lease in leases if lease.on_trial}
        assert all(each.number in trials for each in state(pool) if each.due == math.inf)
    for lease in leases:
        pool.give_back(lease)
    assert all(each.outstanding == 0 for each in state(pool))
    clock.now += PAUSE_MAX
    for _ in range(count):
        pool.give_back(pool.lend(1))
    assert all(each.due is None for each in state(pool))


def checked(pool: Pool, work: int, now: float) -> Lease:
    inside = {each.number: each.outstanding for each in state(pool) if each.due is None}
    due = {each.number for each in state(pool) if each.due is not None and each.due <= now}
    lease = pool.lend(work)
    assert lease.on_trial == (lease.number not in inside)
    if due:
        assert lease.number in due
    elif inside:
        assert inside[lease.number] == min(inside.values())
    return lease


def test_a_retry_is_said_by_the_client_alone() -> None:
    """The retry library would log it a second time."""
    assert failover.stamina.instrumentation.get_on_retry_hooks() == ()
