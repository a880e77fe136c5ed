"""The planted question finds how an upstream can be asked, and refuses one whose answers mean nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pad_teacher.engines.openai.spending import Spending
from pad_teacher.engines.openai.upstream import Address, Upstream
from pad_teacher.errors import CannotServe
from pad_teacher.scoring.black_box.golden import Way, find_way
from pad_teacher.scoring.golden_check import GoldenMismatch
from pad_wire.question import PLAIN, QuestionForm
from support.stub_upstream import KEY, MODEL, Answer, Body, StubUpstream, error, passing, said, stub_upstream

FORMS = [QuestionForm(), PLAIN]
RIGHT = passing(lambda _: said("A"), logprobs=True)
RIGHT_BY_VOTE = passing(lambda _: said("A"), logprobs=False)


@contextmanager
def asked(answer: Callable[[Body], Answer]) -> Iterator[tuple[Upstream, StubUpstream]]:
    with stub_upstream(answer) as stub:
        upstream = Upstream(Address(stub.url, MODEL, 5, 16), KEY, Spending(10_000, None))
        yield upstream, stub
        upstream.close()


def test_label_probabilities_after_a_begun_answer_come_first() -> None:
    with asked(RIGHT) as (upstream, stub):
        assert find_way(upstream, FORMS) == Way("label_probabilities", QuestionForm())
    assert len(stub.asked) == 2, "one in each order"


def test_an_api_that_continues_no_answer_is_asked_plainly() -> None:
    def answer(body: Body) -> Answer:
        return error(400, "unknown_parameter") if "continue_final_message" in body else RIGHT(body)

    with asked(answer) as (upstream, _):
        assert find_way(upstream, FORMS) == Way("label_probabilities", PLAIN)


def test_an_api_of_fewer_likeliest_tokens_is_asked_for_those() -> None:
    def answer(body: Body) -> Answer:
        return error(400, "invalid_value") if body.get("top_logprobs", 0) > 5 else RIGHT(body)

    with asked(answer) as (upstream, _):
        assert find_way(upstream, FORMS) == Way("label_probabilities", QuestionForm())
        assert upstream.top == 5


@pytest.mark.parametrize("silent", [False, True])
def test_an_api_without_log_probabilities_votes(silent: bool) -> None:
    """It may refuse the parameter, or take it and return none."""

    def answer(body: Body) -> Answer:
        return RIGHT_BY_VOTE({**body, "logprobs": None} if silent else body)

    with asked(answer) as (upstream, _):
        assert find_way(upstream, FORMS) == Way("votes", QuestionForm())


def test_the_other_name_of_the_limit_is_tried() -> None:
    def answer(body: Body) -> Answer:
        return error(400, "unsupported_parameter") if "max_tokens" in body else RIGHT(body)

    with asked(answer) as (upstream, stub):
        find_way(upstream, FORMS)
    assert upstream.limit_name == "max_completion_tokens"
    assert "max_completion_tokens" in stub.asked[-1]


@pytest.mark.parametrize(
    "answer",
    [
        said("I would say the first one."),
        said("A", [("A", 0.9), ("B", 0.1)]),
        said(None, [("The", 0.9)]),
        said("A", [("A", 0.3), ("The", 0.7)]),
    ],
    ids=["prose", "always A", "no letter", "little on letters"],
)
def test_answers_that_mean_nothing_are_refused(answer: Answer) -> None:
    with asked(lambda _: answer) as (upstream, _), pytest.raises(GoldenMismatch, match="any teacher gets right"):
        find_way(upstream, FORMS)


@pytest.mark.parametrize("answer", [error(401), error(429), error(500), Answer("<html>", content_type="text/html")])
def test_an_upstream_that_cannot_be_asked_is_no_teacher(answer: Answer) -> None:
    with asked(lambda _: answer) as (upstream, stub), pytest.raises(CannotServe) as refused:
        find_way(upstream, FORMS)
    assert len(stub.asked) == 1
    assert KEY not in str(refused.value)
