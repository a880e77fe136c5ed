"""A reference that is a service of its own: the numbers, and one clear line for each thing that can be wrong."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from pad_student.teacher.client import (
    Teacher,
    TeacherChanged,
    TeacherNonsense,
    TeacherRefused,
    TeacherUnreachable,
)
from pad_student.teacher.requests.refusals import Refusals
from pad_wire import Response, SampledSet, ScoredSet
from support.fake_teacher import broken, error
from support.teacher_fleet import Clock
from support.token_service import FakeTokenService

SETS = [
    SampledSet(id=f"s{k}", prompt=f"say {k}", responses=[Response(text="yes"), Response(text="no!", finished=False)])
    for k in range(5)
]
TOKENS = 5 * (4 + 3)


def both(ours: FakeTokenService, theirs: FakeTokenService, **how: Any) -> Teacher:
    """A client of two services, at two addresses."""
    transport = httpx.MockTransport(lambda request: (theirs if request.url.host == "ref" else ours).answer(request))
    return Teacher("http://t", transport=transport, reference="http://ref", **how)


def asked(teacher: Teacher) -> list[ScoredSet]:
    return teacher.token_logprobs(SETS, top=7, reference=True)


def cut(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"\x10\0\0")


def test_two_services_give_the_numbers_of_one() -> None:
    one = FakeTokenService(seed=1, reference=2)
    alone = asked(Teacher("http://t", transport=one.transport))
    ours, theirs = FakeTokenService(seed=1), FakeTokenService(seed=2)
    found = asked(both(ours, theirs))
    assert [each.token_tables for each in found] == [each.token_tables for each in alone]
    assert [each.responses for each in found] == [each.responses for each in alone]
    assert {each.teacher.fingerprint for each in found} == {"fp-1"}
    assert {each.reference and each.reference.fingerprint for each in found} == {"fp-2"}
    assert not any(body["reference"] for body in ours.bodies + theirs.bodies)


@pytest.mark.parametrize(("own", "sent"), [("k-ref", "k-ref"), (None, "k-teacher")])
def test_a_reference_is_asked_with_its_own_key_if_it_has_one(own: str | None, sent: str) -> None:
    ours, theirs = FakeTokenService(seed=1), FakeTokenService(seed=2)
    asked(both(ours, theirs, key="k-teacher", reference_key=own))
    keys = [{each.headers["Authorization"] for each in service.requests} for service in (ours, theirs)]
    assert keys == [{"Bearer k-teacher"}, {f"Bearer {sent}"}]


def test_a_reference_is_asked_only_if_it_is_needed() -> None:
    theirs = FakeTokenService(seed=2)
    both(FakeTokenService(seed=1), theirs).token_logprobs(SETS, top=7)
    assert not theirs.requests


def test_a_request_keeps_to_the_references_limit() -> None:
    """Named ids take many more bytes than texts: even the responses of one set are divided."""
    whole = asked(both(FakeTokenService(seed=1), FakeTokenService(seed=2)))
    theirs = FakeTokenService(seed=2)
    theirs.limits["max_body_bytes"] = 260
    teacher = both(FakeTokenService(seed=1), theirs)
    teacher.model()
    assert asked(teacher) == whole
    assert {len(each["responses"]) for body in theirs.bodies for each in body["sets"]} == {1}
    assert len(theirs.bodies) == 2 * len(SETS)


def test_the_card_is_that_of_both() -> None:
    teacher = both(FakeTokenService(seed=1), FakeTokenService(seed=2))
    card = teacher.model()
    assert card.reference is not None
    assert (card.fingerprint, card.reference.fingerprint) == ("fp-1", "fp-2")
    assert (teacher.fingerprint, teacher.reference_fingerprint) == ("fp-1", "fp-2")


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [("u" * 64, r"another tokenizer \(uuuuuuuu\) than the teacher"), (None, "tells no log-probabilities at given")],
)
def test_a_reference_that_cannot_serve_is_refused(tokenizer: str | None, message: str) -> None:
    teacher = both(FakeTokenService(seed=1), FakeTokenService(seed=2, tokenizer=tokenizer))
    with pytest.raises(TeacherRefused, match=message):
        teacher.model()


def _tensor(name: str, value: Any) -> Callable[[FakeTokenService], None]:
    return lambda service: service.changes.update({name: value})


def _metadata(name: str, value: str) -> Callable[[FakeTokenService], None]:
    return lambda service: service.metadata.update({name: value})


NINE = '{"prompt_tokens": 9, "response_tokens": 2, "question_tokens": 3, "total_tokens": 14}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _tensor("token_ids", np.zeros(TOKENS, np.uint32)),
            "set 's0', response 0: its token_ids are not the teacher's",
        ),
        (_tensor("top_ids", np.zeros((TOKENS, 7), np.uint32)), "'s0', response 0: its top_ids are not the teacher's"),
        (_tensor("rest", np.full(TOKENS, np.nan, np.float32)), "rest has a value that is no log-probability"),
        (_metadata("usage", NINE), "prompts as 9 tokens, and the teacher as 1: serve both with one chat template"),
        (_metadata("tokenizer", "u" * 64), r"its tokenizer \(uuuuuuuu\) is not the teacher's"),
    ],
)
def test_a_reply_that_does_not_fit_the_teachers_is_one_line(
    clock: Clock, change: Callable[[FakeTokenService], None], message: str
) -> None:
    theirs = FakeTokenService(seed=2)
    change(theirs)
    with pytest.raises(TeacherNonsense, match=message) as raised:
        asked(both(FakeTokenService(seed=1), theirs))
    assert str(raised.value).startswith("the reference at http://ref sent a reply that cannot be trusted")
    assert "\n" not in str(raised.value)


def test_a_reply_that_was_cut_is_asked_for_again(clock: Clock) -> None:
    whole = asked(both(FakeTokenService(seed=1), FakeTokenService(seed=2)))
    assert asked(both(FakeTokenService(seed=1), FakeTokenService(cut, seed=2))) == whole


def test_a_reference_that_changed_is_one_line() -> None:
    theirs = FakeTokenService(seed=2)
    teacher = both(FakeTokenService(seed=1), theirs)
    asked(teacher)
    theirs.fingerprint = "fp-3"
    with pytest.raises(TeacherChanged, match="the reference at http://ref changed from fp-2 to fp-3"):
        asked(teacher)


@pytest.mark.parametrize("answers", [[error(422, "invalid_request", where="at")], [cut] * 3])
def test_a_changed_reference_that_refuses_the_ids_is_named(clock: Clock, answers: Any) -> None:
    """Another model has other tokens: that it is another one says more than that it refuses these."""
    theirs = FakeTokenService(seed=2)
    teacher = both(FakeTokenService(seed=1), theirs)
    asked(teacher)
    theirs.fingerprint, theirs.faults = "fp-3", answers
    with pytest.raises(TeacherChanged, match="the reference at http://ref changed from fp-2 to fp-3"):
        teacher.token_logprobs(SETS[:1], top=7, reference=True)


def test_a_continued_run_takes_the_reference_it_began_with() -> None:
    teacher = both(FakeTokenService(seed=1), FakeTokenService(seed=2), reference_fingerprint="fp-9")
    with pytest.raises(TeacherChanged, match="reference at http://ref changed from fp-9 to fp-2"):
        asked(teacher)
    teacher = both(FakeTokenService(seed=1), FakeTokenService(seed=2))
    asked(teacher)
    with pytest.raises(TeacherChanged, match="the reference is fp-2"):
        teacher.pin("fp-1", "fp-9")


def test_ids_that_the_reference_refuses_are_one_line() -> None:
    theirs = FakeTokenService(error(422, "invalid_request", where="at"), seed=2)
    with pytest.raises(TeacherRefused, match=r"the reference at http://ref refused: because \(at\)"):
        asked(both(FakeTokenService(seed=1), theirs))


def test_a_set_that_only_the_reference_refuses_is_left_out() -> None:
    theirs = FakeTokenService(*[error(422, "too_long", where="sets[0]")] * 4, seed=2)
    refusals = Refusals("skip", 1.0)
    teacher = both(FakeTokenService(seed=1), theirs)
    found = list(teacher.score_stream(SETS, token_top=7, reference=True, refusals=refusals, workers=1))
    assert refusals.counts["too_long"] > 0
    assert len(found) == len(SETS) - refusals.counts["too_long"]


def test_a_dead_reference_is_one_line_that_names_it(clock: Clock) -> None:
    theirs = FakeTokenService(*[broken(httpx.ConnectError)] * 99, seed=2)
    with pytest.raises(TeacherUnreachable, match="cannot connect to the reference at http://ref"):
        asked(both(FakeTokenService(seed=1), theirs))


def test_a_wrong_address_of_the_reference_names_it() -> None:
    with pytest.raises(TeacherUnreachable, match="the reference's URL must look like"):
        Teacher("http://t", reference="ref")
