"""Replicas share the work; one that fails is left out and comes back, and nothing is lost."""

import json
import logging
import threading

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_student.teacher.client import Teacher, TeacherUnreachable
from pad_student.teacher.replicas.failover import FIRST_ATTEMPTS
from support.fake_teacher import FakeTeacherService, broken, error
from support.teacher_fleet import DEAD, A, B, Clock, Fleet, in_order, paths, sampled, scored_ids


@pytest.fixture(autouse=True)
def _only_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """The HTTP library tells of each request where another test has set the level so."""
    caplog.set_level(logging.WARNING)


def about(caplog: pytest.LogCaptureFixture, url: str) -> list[str]:
    """What the client itself says of a replica; what its libraries log of their retries is theirs."""
    ours = [record for record in caplog.records if record.name.startswith("pad_student")]
    return [record.message for record in ours if url in record.message]


def test_replicas_share_the_work_and_answers_keep_their_order(fleet):
    teacher = fleet.client()
    teacher.model()
    assert scored_ids(teacher, 160, workers=1) == in_order(160)
    assert sorted(fleet.ids()) == sorted(in_order(160))
    assert min(len(fleet.a.bodies), len(fleet.b.bodies)) >= 4


def test_twice_as_many_requests_are_on_their_way_to_two():
    together = threading.Barrier(8, timeout=20)
    fleet = Fleet()

    def meet(request: httpx.Request) -> httpx.Response:
        together.wait()
        return httpx.Response(200, json=FakeTeacherService().reply(request.url.path, json.loads(request.content)))

    teacher = fleet.client()
    teacher.model()
    fleet.a.faults, fleet.b.faults = [meet] * 4, [meet] * 4
    assert scored_ids(teacher, 64) == in_order(64)


def test_a_slow_replica_is_given_less():
    fleet, enough = Fleet(), threading.Event()

    def slow(request: httpx.Request) -> httpx.Response:
        assert enough.wait(20)
        return httpx.Response(200, json=FakeTeacherService().reply(request.url.path, json.loads(request.content)))

    def fast(request: httpx.Request) -> httpx.Response:
        if len(fleet.b.requests) > 5:
            enough.set()
        return httpx.Response(200, json=FakeTeacherService().reply(request.url.path, json.loads(request.content)))

    teacher = fleet.client()
    teacher.model()
    fleet.a.faults, fleet.b.faults = [slow] * 8, [fast] * 8
    assert scored_ids(teacher, 8 * 8, workers=2) == in_order(8 * 8)
    assert paths(fleet.a).count("/v1/score") <= 3


def test_requests_of_a_dead_replica_go_to_the_other_promptly(fleet, clock, caplog):
    teacher = fleet.client()
    teacher.model()
    fleet.a.faults = [DEAD] * 99
    assert scored_ids(teacher, 160) == in_order(160)
    assert sorted(fleet.ids()) == sorted(in_order(160))
    assert clock.slept == []
    assert [line.startswith(f"cannot connect to the teacher at {A}") for line in about(caplog, A)] == [True]


def test_a_returning_replica_is_probed_before_it_gets_work(fleet, caplog):
    teacher = fleet.client()
    teacher.model()
    fleet.a.requests.clear()
    fleet.a.faults = [DEAD, DEAD]
    assert scored_ids(teacher, 8 * 30, workers=1) == in_order(8 * 30)
    assert paths(fleet.a)[:4] == ["/v1/score", "/v1/models", "/v1/models", "/v1/score"]
    assert len(fleet.a.bodies) >= 10
    assert [line.endswith("is back") for line in about(caplog, A)] == [False, True]


def test_one_that_is_away_at_first_joins_when_it_is_there(fleet):
    fleet.b.faults = [error(503, "not_ready")] * 3
    teacher = fleet.client()
    teacher.model()
    assert scored_ids(teacher, 8 * 30, workers=1) == in_order(8 * 30)
    assert len(fleet.b.bodies) >= 10


def test_only_the_full_replica_rests_for_as_long_as_it_asks(fleet, clock):
    teacher = fleet.client()
    teacher.model()
    fleet.a.requests.clear()
    asked_at = []

    def full(request: httpx.Request) -> httpx.Response:
        asked_at.append(clock.now)
        return error(429, "overloaded", {"Retry-After": "7"})(request)

    fleet.a.faults = [full]
    stream = teacher.score_stream(sampled(8 * 40), workers=1)
    while len(fleet.a.requests) < 2:
        next(stream)
    assert clock.now - asked_at[0] >= 7
    assert clock.slept == []
    assert len(list(stream))


@pytest.mark.parametrize(("first", "second"), [("9", "4"), ("4", "9")])
def test_if_all_are_full_the_first_to_be_free_is_waited_for(fleet, clock, first, second):
    teacher = fleet.client()
    teacher.model()
    fleet.a.faults = [error(429, "overloaded", {"Retry-After": first})]
    fleet.b.faults = [error(429, "overloaded", {"Retry-After": second})]
    assert scored_ids(teacher, 1) == in_order(1)
    assert len(clock.slept) == 1
    assert 3 <= clock.slept[0] <= 4


def test_all_out_and_back_again_loses_nothing(fleet, clock, caplog):
    teacher = fleet.client()
    teacher.model()
    fleet.a.faults, fleet.b.faults = [DEAD] * 5, [DEAD] * 5
    assert scored_ids(teacher, 8 * 40, workers=1) == in_order(8 * 40)
    assert sorted(fleet.ids()) == sorted(in_order(8 * 40))
    assert clock.slept
    for _ in range(9):  # a replica that is out comes back with the first work after its pause, if work is left
        clock.sleep(30)
        scored_ids(teacher, 16)
    for url in (A, B):
        assert about(caplog, url)[-1] == f"the teacher at {url} is back"


def outcome_of_dead(urls: list[str], known: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int, float]:
    clock, fleet = Clock().install(monkeypatch), Fleet()
    teacher = Teacher(urls, transport=fleet.transport)
    if known:
        teacher.model()
    fleet.a.faults, fleet.b.faults = [DEAD] * 999, [DEAD] * 999
    with pytest.raises(TeacherUnreachable) as caught:
        list(teacher.score_stream(sampled(1)))
    return str(caught.value).replace(B, A), len(clock.slept), sum(clock.slept)


@pytest.mark.parametrize("known", [True, False])
def test_all_out_for_good_is_what_a_single_one_would_be(monkeypatch, known):
    words, attempts, seconds = outcome_of_dead([A], known, monkeypatch)
    two_words, two_attempts, _ = outcome_of_dead([A, B], known, monkeypatch)
    assert two_words == words
    assert abs(two_attempts - attempts) <= 3  # the waits are drawn at random
    assert 570 < seconds < 630 if known else attempts == FIRST_ATTEMPTS - 1


def test_a_replica_that_never_came_up_shortens_no_wait(fleet, clock):
    fleet.b.faults = [DEAD] * 999
    teacher = fleet.client()
    teacher.model()
    fleet.a.faults, began = [DEAD] * 999, clock.now
    with pytest.raises(TeacherUnreachable):
        teacher.score(sampled(1))
    assert 580 < clock.now - began < 630


def test_a_hung_replica_costs_seconds_and_not_a_whole_timeout(fleet, clock):
    teacher = fleet.client(timeout=120)
    fleet.a.faults = [broken(httpx.ReadTimeout)] * 99
    teacher.model()
    assert [request.extensions["timeout"]["read"] for request in fleet.a.requests] == [10.0]


def test_without_any_address_there_is_no_teacher():
    with pytest.raises(TeacherUnreachable, match="no teacher's URL is given"):
        Teacher([])


FAULTS = st.sampled_from(
    [
        *map(broken, (httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError)),
        error(429, "overloaded", {"Retry-After": "2"}),
        error(503, "not_ready"),
        error(504, "deadline_exceeded"),
    ]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(FAULTS, max_size=12), st.lists(FAULTS, max_size=12), st.integers(1, 4))
def test_whatever_happens_every_set_comes_out_once_and_in_order(first, second, workers):
    with pytest.MonkeyPatch.context() as monkeypatch:
        fleet = Fleet(Clock().install(monkeypatch))
        teacher = fleet.client(patience=1e6)  # each thread's sleep moves the one clock
        teacher.model()
        fleet.a.faults, fleet.b.faults = list(first), list(second)
        logging.disable(logging.WARNING)
        try:
            assert scored_ids(teacher, 100, workers=workers) == in_order(100)
        finally:
            logging.disable(logging.NOTSET)
