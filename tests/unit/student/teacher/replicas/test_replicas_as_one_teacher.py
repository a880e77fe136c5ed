"""Replicas answer as one teacher: its refusals, its fingerprint, its limits and its usage; or they are refused."""

import httpx
import pytest

from pad_student.teacher.client import Teacher, TeacherChanged, TeacherRefused, TeachersDiffer
from support.fake_teacher import LIMITS, FakeTeacherService, error
from support.teacher_fleet import DEAD, A, B, paths, sampled, scored_ids


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (413, "body_too_large"), (422, "too_long")])
def test_a_refusal_is_not_taken_to_another_replica(fleet, status, code):
    teacher = fleet.client()
    teacher.model()
    fleet.a.faults, fleet.b.faults = [error(status, code)] * 9, [error(status, code)] * 9
    with pytest.raises(TeacherRefused):
        teacher.score(sampled(1))
    assert (paths(fleet.a) + paths(fleet.b)).count("/v1/score") == 1


def test_replicas_that_differ_are_refused_with_both_names(fleet):
    fleet.b.fingerprint = "fp-2"
    with pytest.raises(TeachersDiffer) as caught:
        fleet.client().model()
    assert str(caught.value).startswith(f"the teacher at {B} is fp-2, but the one at {A} is fp-1; ")
    assert "\n" not in str(caught.value)


def test_replicas_that_differ_never_both_get_work_unchecked(fleet):
    fleet.b.fingerprint = "fp-2"
    with pytest.raises(TeachersDiffer):
        scored_ids(fleet.client(), 160)
    assert not (fleet.a.bodies and fleet.b.bodies)


@pytest.mark.parametrize(("changed", "same"), [(A, B), (B, A)])
def test_a_replica_returning_with_other_weights_is_refused(fleet, changed, same):
    teacher = fleet.client()
    teacher.model()
    fake = fleet.a if changed == A else fleet.b
    fake.faults, fake.fingerprint = [DEAD] * 2, "fp-2"
    with pytest.raises(TeachersDiffer, match=f"{changed} is fp-2, but the one at {same} is fp-1"):
        scored_ids(teacher, 8 * 40, workers=1)
    assert not fake.bodies


def test_a_continued_run_wants_its_teacher_at_every_replica(fleet):
    with pytest.raises(TeacherChanged, match="from fp-0 to fp-1"):
        fleet.client(fingerprint="fp-0").model()


def test_requests_respect_the_limits_of_every_replica(fleet, monkeypatch):
    monkeypatch.setattr(fleet.b, "card", lambda: {**FakeTeacherService().card(), "limits": {**LIMITS, "max_sets": 3}})
    teacher = fleet.client()
    assert teacher.model().limits.max_sets == 3
    scored_ids(teacher, 12)
    assert {len(body["sets"]) for fake in (fleet.a, fleet.b) for body in fake.bodies} == {3}


def test_usage_is_that_of_all_replicas(fleet):
    def used(tokens: int, job: str):
        counts = dict.fromkeys(["requests", "prompt_tokens", "response_tokens", "question_tokens"], 1)
        row = {"job": job, **counts, "total_tokens": tokens}
        key = {
            "name": "lab",
            "weight": 2.0,
            "tokens_per_minute": 100,
            "left_of_minute": tokens,
            "tokens_today": tokens,
        }
        return lambda request: httpx.Response(200, json={"key": key, "jobs": [row, {**row, "job": "both"}]})

    fleet.a.faults, fleet.b.faults = [used(5, "a")], [used(7, "b")]
    usage = fleet.client().usage()
    totals = {each.job: each.total_tokens for each in usage.jobs}
    assert totals == {"a": 5, "both": 12, "b": 7}
    assert (usage.key.name, usage.key.weight, usage.key.tokens_per_minute) == ("lab", 2.0, 200)
    assert (usage.key.left_of_minute, usage.key.tokens_today, usage.key.left_of_day) == (12, 12, None)


def test_a_single_address_costs_no_request_more(clock):
    fake = FakeTeacherService()
    teacher = Teacher([A, A], transport=fake.transport)
    scored_ids(teacher, 1)
    assert paths(fake) == ["/v1/score"]
