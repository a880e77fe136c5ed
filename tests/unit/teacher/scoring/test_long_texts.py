"""Texts that are far too long, found without tokenising them whole, and cuts that change no token before them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pad_teacher.engines.queries import TokenSet
from pad_teacher.errors import Refusal
from pad_teacher.scoring.likelihood import plan_likelihood
from pad_teacher.scoring.long_texts import SLICE_CHARS, beginning
from pad_teacher.scoring.plan import READ_FOR_KEY, PlanBudget
from pad_teacher.scoring.questions import number_of_orders, question_orders
from pad_teacher.scoring.score import plan_score
from pad_teacher.scoring.selection import plan_selection
from pad_teacher.scoring.teacher import Teacher
from pad_wire import LikelihoodRequest, Response, ResponseSet, ScoreRequest, SelectionRequest
from pad_wire.chat import ChatEncoder
from pad_wire.scoring import Form, Orders
from support.chat_kinds import TOKENIZERS, tokenizer_of
from support.fakes import fake_teacher
from support.steps import finished

LIMIT = 2048  # the fake engine's context
PARTS = ("Red is a Green user. ", "  \n\n a", "<|im_end|>", "é", "e\u0301", "漢字", "🙂", "12", "a")


def budget(tokens: int = 1_000_000, key_tokens: int | None = None) -> PlanBudget:
    return PlanBudget(tokens, 8192, key_tokens=key_tokens)


def of_kind(kind: str) -> Teacher:
    tokenizer: Any = tokenizer_of(kind, "chatml")
    return replace(fake_teacher(), encoder=ChatEncoder.of(tokenizer))


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("part", PARTS)
def test_a_beginning_has_the_tokens_of_the_whole_text(kind: str, part: str) -> None:
    teacher = of_kind(kind)
    text = part * (6 * SLICE_CHARS // len(part))
    [whole] = teacher.encoder.response_ids([text], [False])
    for limit in (500, 1000, len(whole) - 1, len(whole)):
        begun = finished(beginning(teacher, text, limit))
        if len(whole) <= limit:
            assert begun == text
        if len(begun) < len(text):
            [ids] = teacher.encoder.response_ids([begun], [False])
            assert len(ids) > limit
            assert ids[:limit] == whole[:limit]
    assert len(finished(beginning(teacher, text, 100))) < len(text)


def test_a_cut_response_has_the_ids_of_the_whole_one() -> None:
    teacher = fake_teacher()
    text = "so it goes, " * 4000
    request = LikelihoodRequest(
        sets=[ResponseSet.model_validate({"prompt": "hi", "responses": [text]})], truncate=True
    )
    [query] = finished(plan_likelihood(teacher, request, budget())).queries
    [whole] = teacher.encoder.response_ids([text], [True])
    room = LIMIT - len(teacher.encoder.prompt_ids("hi"))
    assert query.response_ids == [whole[:room]]  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["listwise", "pairwise"])
@pytest.mark.parametrize("orders", ["single", "cyclic", "both", "all", "adaptive"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_questions_are_counted_without_making_them(form: Form, orders: Orders, n: int) -> None:
    assert number_of_orders(n, form, orders) == len(question_orders(n, form, orders))


@pytest.mark.parametrize("responses", [["", ""], ["a", "b", ""], ["x" * 300, "y", "z" * 20]])
@pytest.mark.parametrize("orders", ["single", "all"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_questions_that_fit_the_queue_are_never_refused(kind: str, responses: list[str], orders: Orders) -> None:
    teacher = of_kind(kind)
    item = ResponseSet.model_validate({"prompt": "?", "responses": responses})
    request = SelectionRequest(sets=[item] * 3, orders=orders, distinct=False)
    needed = budget()
    finished(plan_selection(teacher, request, needed))
    exact = 1_000_000 - needed.tokens
    finished(plan_selection(teacher, request, budget(exact)))
    with pytest.raises(Refusal, match="queue"):
        finished(plan_selection(teacher, request, budget(exact - 1)))


def test_reading_stops_at_a_multiple_of_the_keys_limit() -> None:
    item = ResponseSet.model_validate({"prompt": "hi", "responses": ["yes" * 30, "no" * 30]})
    teacher, request = fake_teacher(), LikelihoodRequest(sets=[item] * 1000)
    counted = budget(key_tokens=1000)
    with pytest.raises(Refusal, match="limit: split it"):
        finished(plan_likelihood(teacher, request, counted))
    assert READ_FOR_KEY * 1000 < counted.charged < READ_FOR_KEY * 1000 + 300


def test_a_reply_is_made_set_by_set() -> None:
    request = LikelihoodRequest(sets=[ResponseSet(prompt="hi", responses=[Response(text="a")])] * 20)
    plan = finished(plan_likelihood(fake_teacher(), request, budget()))
    answers: list[Any] = [
        [np.full(len(ids), -1.0, np.float32) for ids in query.response_ids]
        for query in plan.queries
        if isinstance(query, TokenSet)
    ]
    assert len(list(plan.reply(answers))) >= 20


def test_too_many_options_are_refused_before_any_text_is_read() -> None:
    many = [ResponseSet(prompt="hi", responses=[Response(text="a")] * n) for n in (2, 27)]
    with pytest.raises(Refusal) as caught:
        next(plan_score(fake_teacher(), ScoreRequest(sets=many), budget()))
    assert (caught.value.detail.code, caught.value.detail.where) == ("too_many_options", "sets[1].responses")
