"""The client of a chat API: one request a question, the right refusal, every token counted, and a key nobody sees."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pad_teacher.engines.base import EngineFailed
from pad_teacher.engines.openai.engine import OpenAIEngine
from pad_teacher.engines.openai.exchange import MAX_REPLY_BYTES
from pad_teacher.engines.openai.spending import Spending
from pad_teacher.engines.openai.upstream import Address, Upstream
from pad_teacher.engines.queries import ChatQuestion
from pad_teacher.errors import Refusal
from support.stub_upstream import KEY, MODEL, Answer, StubUpstream, error, said, stub_upstream
from support.waiting import wait_until

LETTERS = ChatQuestion((("user", "x" * 39),), "", 2)
VOTE = ChatQuestion((("user", "x" * 39),), "", 2, vote=0)
LIMIT = 10_000


@pytest.fixture
def stub() -> Iterator[StubUpstream]:
    with stub_upstream(lambda _: said("A", [("A", 0.9), ("B", 0.1)])) as stub:
        yield stub


@pytest.fixture
def make(stub: StubUpstream) -> Iterator[Callable[..., OpenAIEngine]]:
    made: list[OpenAIEngine] = []

    def engine(timeout: float = 5.0, limit: int = LIMIT) -> OpenAIEngine:
        address = Address(stub.url, MODEL, timeout, 16)
        made.append(OpenAIEngine(Upstream(address, KEY, Spending(limit, None)), 2))
        return made[-1]

    yield engine
    for each in made:
        each.close()


def refused(answer: Any) -> Refusal:
    assert isinstance(answer, Refusal), answer
    assert KEY not in str(answer)
    return answer


def in_words(message: str) -> Answer:
    """An error of vLLM's form, whose code is only the status."""
    return Answer({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}, 400)


def test_letters_are_asked_for_in_one_token(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    (answer,) = make().score([LETTERS])
    assert answer[0][:2].tolist() == pytest.approx([0.9, 0.1])
    (asked,) = stub.asked
    assert (asked["logprobs"], asked["top_logprobs"], asked["max_tokens"]) == (True, 20, 1)
    assert (asked["temperature"], asked["top_p"], asked["model"]) == (1, 1, MODEL)
    assert "continue_final_message" not in asked
    assert stub.keys == [f"Bearer {KEY}"]


def test_a_vote_is_sampled(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    (answer,) = make().score([VOTE])
    assert answer[0].tolist() == [1.0, 0.0]
    assert "logprobs" not in stub.asked[0]
    assert stub.asked[0]["max_tokens"] == 16


def test_a_begun_answer_is_continued(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    make().score([ChatQuestion((("user", "?"),), "It is (", 2)])
    assert stub.asked[0]["messages"][-1] == {"role": "assistant", "content": "It is ("}
    assert stub.asked[0]["continue_final_message"] is True
    assert stub.asked[0]["add_generation_prompt"] is False


@pytest.mark.parametrize(
    ("answer", "code", "retryable", "seconds"),
    [
        (error(429, "rate_limit_exceeded", **{"Retry-After": "7"}), "overloaded", True, 7),
        (error(429), "overloaded", True, 10),
        (error(429, "insufficient_quota"), "quota_exceeded", False, None),
        (error(400, "context_length_exceeded"), "too_long", False, None),
        (in_words("This model's maximum context length is 9 tokens."), "too_long", False, None),
        (in_words("too long"), "template_refused", False, None),
        (error(400, "content_filter"), "template_refused", False, None),
        (error(401), "engine_failed", False, None),
        (error(404), "engine_failed", False, None),
        (error(500), "engine_failed", True, None),
        (error(503, None, **{"Retry-After": "3"}), "engine_failed", True, 3),
        (error(504), "deadline_exceeded", True, None),
        (Answer("<html>please log in</html>", content_type="text/html"), "engine_failed", True, None),
        (Answer("<html>bad gateway</html>", 502, content_type="text/html"), "engine_failed", True, None),
        (Answer("", 302, {"Location": "http://127.0.0.1:9/elsewhere"}), "engine_failed", False, None),
        (said("A"), "template_refused", False, None),
    ],
)
def test_an_upstreams_error_becomes_the_right_refusal(
    make: Callable[..., OpenAIEngine],
    stub: StubUpstream,
    answer: Answer,
    code: str,
    retryable: bool,
    seconds: int | None,
) -> None:
    stub.answer = lambda _: answer
    refusal = refused(make().score([LETTERS])[0])
    assert (refusal.detail.code, refusal.detail.retryable, refusal.retry_after_s) == (code, retryable, seconds)
    assert len(stub.asked) == 1, "nothing is asked twice"


def test_an_upstream_that_hangs_is_too_slow(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    stub.answer = lambda _: Answer({}, hangs=True)
    assert refused(make(timeout=0.2).score([LETTERS])[0]).detail.code == "deadline_exceeded"
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "slow", [Answer({}, drips="head"), Answer(" " * 4096, drips="body"), Answer(" " * 4096, 500, drips="body")]
)
def test_a_reply_byte_by_byte_ends_at_the_timeout(
    make: Callable[..., OpenAIEngine], stub: StubUpstream, slow: Answer
) -> None:
    stub.answer = lambda _: slow
    engine = make(timeout=0.5)
    began = time.monotonic()
    assert refused(engine.score([LETTERS])[0]).detail.code == "deadline_exceeded"
    assert 0.4 < time.monotonic() - began < 5
    assert engine.upstream.spending.today == LETTERS.cost + 1, "nobody knows whether it costs"


def test_a_reply_without_end_is_given_up(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    stub.answer = lambda _: Answer(" " * (MAX_REPLY_BYTES + 1))
    refusal = refused(make().score([LETTERS])[0])
    assert refusal.detail.code == "engine_failed"
    assert "without end" in str(refusal)


def test_an_interrupt_ends_what_is_asked_and_asks_no_more(
    make: Callable[..., OpenAIEngine], stub: StubUpstream
) -> None:
    engine = make(timeout=60)
    stub.answer = lambda _: Answer({}, hangs=True)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(engine.score, [LETTERS]) for _ in range(2)]
        wait_until(lambda: stub.under_way == 2, 30)
        engine.interrupt()
        answers = [each.result(10)[0] for each in waiting]
    answers += engine.score([VOTE])
    assert {refused(each).detail.code for each in answers} == {"not_ready"}
    assert len(stub.asked) == 2
    assert engine.upstream.spending.today >= 2 * (LETTERS.cost + 1), "what was sent may cost"


def test_an_upstream_that_is_not_there_has_failed(make: Callable[..., OpenAIEngine]) -> None:
    upstream = Upstream(Address("http://127.0.0.1:9/v1", MODEL, 5, 16), KEY, Spending(LIMIT, None))
    engine = OpenAIEngine(upstream, 1)
    assert refused(engine.score([LETTERS])[0]).detail.code == "engine_failed"
    engine.close()


def test_one_question_fails_and_the_other_is_answered(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    stub.answer = lambda body: error(500) if "x" in body["messages"][0]["content"] else said("A")
    first, second = make().score([VOTE, ChatQuestion((("user", "y"),), "", 2, vote=0)])
    refused(first)
    assert second[0].tolist() == [1.0, 0.0]


def test_another_model_in_the_replies_ends_the_engine(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    engine = make()
    engine.score([VOTE])
    stub.answer = lambda _: said("A", model="another")
    with pytest.raises(EngineFailed, match="another model"):
        engine.score([VOTE])


def test_the_tokens_of_a_reply_are_those_that_count(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    engine = make()
    engine.score([VOTE])
    assert engine.upstream.spending.today == 31
    stub.answer = lambda _: error(500)
    engine.score([VOTE])
    assert engine.upstream.spending.today == 31, "an error costs nothing"
    body = said("A").body
    stub.answer = lambda _: Answer({**body, "usage": None})
    engine.score([VOTE])
    assert engine.upstream.spending.today == 31 + VOTE.cost + 16, "without the count, the estimate stands"


def test_a_day_that_is_spent_asks_for_nothing(make: Callable[..., OpenAIEngine], stub: StubUpstream) -> None:
    engine = make(limit=40)
    engine.score([VOTE])
    refusal = refused(engine.score([VOTE])[0])
    assert refusal.detail.code == "quota_exceeded"
    assert 0 < (refusal.retry_after_s or 0) <= 86_400
    assert len(stub.asked) == 1


def test_the_key_is_in_no_log(
    make: Callable[..., OpenAIEngine], stub: StubUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        engine = make()
        engine.score([VOTE])
        stub.answer = lambda _: error(401)
        engine.score([VOTE])
    assert KEY not in caplog.text
    assert "xxx" not in caplog.text, "nor are questions"
    assert KEY not in repr(engine.upstream) + repr(engine.upstream.address)
