"""The client obeys, retries within bounds, names what is wrong, and returns no number that cannot be trusted."""

import itertools
import json
import socket
import threading

import httpx
import pytest

from pad_student.teacher.client import Teacher, TeacherChanged, TeacherNonsense, TeacherRefused, TeacherUnreachable
from pad_student.teacher.network.connection import FEW_ATTEMPTS
from pad_student.teacher.replicas.failover import FIRST_ATTEMPTS
from pad_student.teacher.requests.refusals import Refusals
from pad_wire import Response, SampledSet
from support.fake_teacher import FakeTeacherService, broken, error

URL = "http://teacher.test:8010"


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def sampled(count: int = 2, prefix: str = "s") -> list[SampledSet]:
    responses = [Response(text="yes"), Response(text="maybe", finished=False)]
    return [SampledSet(id=f"{prefix}{i}", prompt=f"question {i}", responses=responses) for i in range(count)]


def client(fake: FakeTeacherService, **options) -> Teacher:
    return Teacher(URL, transport=fake.transport, **options)


def spoiled(change):
    """A fault: a right reply, spoiled."""

    def fault(request: httpx.Request) -> httpx.Response:
        reply = FakeTeacherService().reply(request.url.path, json.loads(request.content))
        change(reply)
        return httpx.Response(200, content=json.dumps(reply))

    return fault


def first_response(**numbers):
    return spoiled(lambda reply: reply["sets"][0]["responses"][0].update(numbers))


NONSENSE = {
    "truncated": lambda request: httpx.Response(200, content=b'{"teacher": {"model": "fa'),
    "not JSON": lambda request: httpx.Response(200, content=b"<html>welcome</html>"),
    "not UTF-8": lambda request: httpx.Response(200, content=b'{"teacher": "\xff"}'),
    "another shape": lambda request: httpx.Response(200, json={"scores": []}),
    "a set too few": spoiled(lambda reply: reply["sets"].pop()),
    "sets in another order": spoiled(lambda reply: reply["sets"].reverse()),
    "a response too few": spoiled(lambda reply: reply["sets"][0]["responses"].pop()),
    "NaN": first_response(log_likelihood=float("nan")),
    "infinite": first_response(mean_log_likelihood=float("-inf")),
    "missing": first_response(log_likelihood=None),
    "no tokens": first_response(tokens=0),
    "positive": first_response(log_likelihood=0.5, mean_log_likelihood=0.125),
    "mean of something else": first_response(mean_log_likelihood=-1.0),
    "probability above 1": first_response(selection_probability=1.5),
    "probability below 0": first_response(selection_probability=-0.1),
}


def test_scores_are_joined_with_their_sets():
    with client(FakeTeacherService()) as teacher:
        scored = teacher.score(sampled())
    assert [each.id for each in scored] == ["s0", "s1"]
    yes, maybe = scored[0].responses
    assert (yes.text, yes.tokens, yes.mean_log_likelihood, yes.selection_probability) == ("yes", 4, -2.0, 0.4)
    assert (maybe.text, maybe.finished) == ("maybe", False)
    assert (scored[0].label_mass, scored[0].teacher.fingerprint, teacher.tokens_scored) == (0.9, "fp-1", 6)


def test_without_weight_the_selection_questions_are_not_asked():
    fake = FakeTeacherService()
    scored = client(fake).score(sampled(), alpha=0)
    assert {request.url.path for request in fake.requests} == {"/v1/likelihood"}
    assert scored[0].responses[0].selection_probability is None


@pytest.mark.parametrize("alpha", [0, 1])
def test_likelihoods_after_an_empty_request_come_if_asked(alpha):
    fake = FakeTeacherService()
    teacher = client(fake)
    for asked, expected in ((False, None), (True, -12.0)):
        scored = teacher.score(sampled(), alpha=alpha, unconditional=asked)
        assert scored[0].responses[0].unconditional_log_likelihood == expected
    assert [body.get("unconditional", False) for body in fake.bodies] == [False, True]
    assert teacher.likelihood(sampled(), unconditional=True)[1].responses[0].unconditional_log_likelihood == -12.0


def test_selection_alone_needs_no_likelihood():
    fake = FakeTeacherService()
    sets = list(client(fake).selection(sampled(), form="pairwise", orders="both"))
    assert [each.responses[0].selection_probability for each in sets] == [0.4, 0.4]
    assert (fake.bodies[0]["form"], fake.bodies[0]["orders"]) == ("pairwise", "both")


@pytest.mark.parametrize("fault", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_reply_that_cannot_be_trusted_is_asked_for_again(fault):
    assert len(client(FakeTeacherService(fault)).score(sampled())) == 2


def test_a_retry_writes_nothing_to_stdout(capsys):
    assert len(client(FakeTeacherService(error(503, "not_ready"))).score(sampled())) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fault", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_teacher_that_keeps_talking_nonsense_is_left(fault):
    fake = FakeTeacherService(*[fault] * 100)
    with pytest.raises(TeacherNonsense, match=URL) as caught:
        client(fake).score(sampled())
    assert len(fake.requests) == FEW_ATTEMPTS
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError])
def test_a_broken_connection_is_tried_again_and_then_named(kind, clock):
    assert len(client(FakeTeacherService(*[broken(kind)] * 3)).score(sampled())) == 2
    fake = FakeTeacherService()
    teacher = client(fake, key="secret")
    teacher.model()
    fake.faults = [broken(kind)] * 100
    clock.slept.clear()
    with pytest.raises(TeacherUnreachable, match=URL) as caught:
        teacher.score(sampled(1), alpha=0.5)
    assert 570 < sum(clock.slept) < 630
    assert "secret" not in str(caught.value)


def test_what_the_system_says_of_a_connection_is_passed_on():
    def unknown(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Bearer secret") from socket.gaierror(-2, "Name or service not known")

    with pytest.raises(TeacherUnreachable, match=r"the teacher at \S+ \(name or service not known\); start"):
        client(FakeTeacherService(*[unknown] * 20)).score(sampled())


def test_an_address_as_other_clients_want_it_will_do():
    fake = FakeTeacherService()
    Teacher(f"{URL}/v1/", transport=fake.transport).score(sampled())
    assert [request.url.path for request in fake.requests] == ["/v1/score"]


def test_an_address_where_nothing_ever_answered_is_left_soon(waits):
    fake = FakeTeacherService(*[broken(httpx.ConnectError)] * 100)
    with pytest.raises(TeacherUnreachable, match="start it, or check the address"):
        client(fake).model()
    assert len(fake.requests) == FIRST_ATTEMPTS
    assert 10 < sum(waits) < 30


def test_a_dripping_reply_ends_at_the_timeout(monkeypatch):
    clock = itertools.count(step=0.4)
    monkeypatch.setattr("pad_student.teacher.network.http.time.monotonic", lambda: next(clock))

    def drip(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=itertools.repeat(b" "))

    with pytest.raises(TeacherUnreachable, match="no answer in 10 s"):
        client(FakeTeacherService(*[drip] * 100), timeout=10, patience=60).score(sampled())


@pytest.mark.parametrize("status", [429, 503, 504])
def test_retry_after_is_obeyed(status, waits):
    fake = FakeTeacherService(error(status, "overloaded", {"Retry-After": "7"}))
    assert len(client(fake).score(sampled())) == 2
    assert waits == [7.0]


def test_waits_without_retry_after_grow_and_stay_bounded(waits):
    client(FakeTeacherService(*[error(503, "not_ready")] * 12)).score(sampled())
    assert waits[0] < waits[4] < waits[-1] <= 21


def test_a_teacher_that_asks_for_too_much_time_is_given_up(waits):
    with pytest.raises(TeacherUnreachable, match="because"):
        client(FakeTeacherService(error(429, "overloaded", {"Retry-After": "3600"})), patience=60).score(sampled())
    assert waits == []


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (404, "not_found"), (422, "too_long")])
def test_a_refusal_is_never_retried(status, code):
    fake = FakeTeacherService(*[error(status, code)] * 9)
    with pytest.raises(TeacherRefused, match=URL) as caught:
        client(fake).score(sampled())
    assert (caught.value.code, len(fake.requests)) == (code, 1)


def test_a_used_up_quota_ends_the_run_and_says_when_to_continue():
    detail = {"code": "quota_exceeded", "message": "0 are left until midnight UTC", "retryable": False}
    fake = FakeTeacherService(
        *[lambda _: httpx.Response(429, json={"error": detail}, headers={"Retry-After": "9"})] * 9
    )
    with pytest.raises(TeacherRefused, match="midnight UTC; go on tomorrow") as caught:
        client(fake).score(sampled())
    assert (caught.value.code, len(fake.requests)) == ("quota_exceeded", 1)


def test_a_number_that_cannot_improve_is_not_asked_for_again():
    detail = {"code": "engine_failed", "message": "not finite", "retryable": False}
    fake = FakeTeacherService(*[lambda _: httpx.Response(503, json={"error": detail})] * 9)
    with pytest.raises(TeacherRefused, match="not finite"):
        client(fake).score(sampled())
    assert len(fake.requests) == 1


def test_a_refusal_names_the_set_that_the_user_knows():
    fake = FakeTeacherService(error(422, "too_long", where="sets[1].responses[0]"))
    with pytest.raises(TeacherRefused, match="set 's1'") as caught:
        client(fake).score(sampled())
    assert caught.value.where == "sets[1].responses[0]"
    assert str(caught.value).count("sets[1].responses[0]") == 1


def test_an_address_of_something_else_is_reported_as_that():
    with pytest.raises(TeacherRefused, match="check that a pad-teacher serves there"):
        client(FakeTeacherService(lambda request: httpx.Response(404, text="nginx"))).model()


def test_another_fingerprint_stops_the_run():
    fake = FakeTeacherService()
    teacher = client(fake)
    teacher.score(sampled())
    fake.fingerprint = "fp-2"
    with pytest.raises(TeacherChanged, match="from fp-1 to fp-2"):
        teacher.score(sampled())


def test_a_continued_run_wants_the_teacher_it_began_with():
    with pytest.raises(TeacherChanged):
        client(FakeTeacherService(), fingerprint="fp-0").model()


def test_every_request_says_who_asks_and_by_when():
    fake = FakeTeacherService(error(503, "not_ready"))
    client(fake, key="secret", job="night", timeout=30).score(sampled())
    first, again = [request.headers for request in fake.requests]
    assert (first["Authorization"], first["X-Job-Id"], first["X-Deadline-Ms"]) == ("Bearer secret", "night", "30000")
    assert first["X-Request-Id"] == again["X-Request-Id"]


def test_requests_stay_within_the_limits_that_are_known():
    fake = FakeTeacherService()
    teacher = client(fake)
    teacher.model()
    assert [each.id for each in teacher.score(sampled(30))] == [f"s{i}" for i in range(30)]
    assert [len(body["sets"]) for body in fake.bodies if body["sets"]].count(8) == 3


def test_results_come_in_order_and_input_is_read_lazily():
    read = 0

    def endless():
        nonlocal read
        for i in itertools.count():
            read += 1
            yield sampled(1, f"{i}-")[0]

    stream = client(FakeTeacherService()).score_stream(endless(), workers=2)
    assert [next(stream).id for _ in range(40)] == [f"{i}-0" for i in range(40)]
    assert read <= 40 + (2 * 2 + 2) * 16
    stream.close()


def test_an_answer_is_there_before_the_next_input_is():
    answered = threading.Event()

    def slow():
        yield from sampled(16)
        assert answered.wait(20)
        yield from sampled(1, "last")

    stream = client(FakeTeacherService()).score_stream(slow())
    first = next(stream)
    answered.set()
    assert [each.id for each in (first, *stream)] == [*(f"s{i}" for i in range(16)), "last0"]


def test_a_failing_input_is_raised_after_the_answers_before_it():
    def torn():
        yield from sampled(16)
        raise OSError("torn")

    stream = client(FakeTeacherService()).score_stream(torn())
    assert [next(stream).id for _ in range(16)] == [f"s{i}" for i in range(16)]
    with pytest.raises(OSError, match="torn"):
        next(stream)


def test_too_long_sets_are_skipped_and_reported_on_request(caplog):
    fake = FakeTeacherService()
    answer = fake.answer

    def narrow(request: httpx.Request) -> httpx.Response:
        if b'"s3"' in request.content or b'"s20"' in request.content:
            fake.requests.append(request)
            return error(422, "too_long")(request)
        return answer(request)

    fake.transport = httpx.MockTransport(narrow)
    scores = client(fake).score_stream(sampled(40), refusals=Refusals("skip"))
    assert [each.id for each in scores] == [f"s{i}" for i in range(40) if i not in (3, 20)]
    assert "the set s3 is left out" in caplog.text
    assert "the set s20 is left out" in caplog.text
    assert len(fake.requests) == 3 + 2 * 4 + 2 * 4  # the third request had none of them; the others were halved
    with pytest.raises(TeacherRefused):
        list(client(fake).score_stream(sampled(40)))


def test_several_requests_are_on_their_way_at_once():
    together = threading.Barrier(4, timeout=20)
    fake = FakeTeacherService()

    def meet(request: httpx.Request) -> httpx.Response:
        together.wait()
        return httpx.Response(200, json=fake.reply(request.url.path, json.loads(request.content)))

    fake.faults = [meet] * 4
    assert len(client(fake).score(sampled(64))) == 64


@pytest.mark.parametrize("url", ["localhost:8010", "ftp://x", "", "http://"])
def test_what_is_no_address_is_refused_at_once(url):
    with pytest.raises(TeacherUnreachable, match="must look like"):
        Teacher(url)


def test_a_password_in_the_address_is_never_shown():
    teacher = Teacher(
        "http://me:hunter2@teacher.test", transport=FakeTeacherService(*[error(404, "not_found")]).transport
    )
    with pytest.raises(TeacherRefused) as caught:
        teacher.model()
    assert "hunter2" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused_unseen():
    with pytest.raises(TeacherRefused, match="printable") as caught:
        Teacher(URL, key="secret\n")
    assert "secret" not in str(caught.value)
