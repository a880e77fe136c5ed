"""The form of the multiple-choice question: read from a file, asked with a begun answer, shown, fingerprinted."""

import math
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml

from pad_teacher.errors import CannotServe
from pad_teacher.scoring.load import read_question
from pad_teacher.scoring.teacher import Teacher
from pad_wire.chat import ChatEncoder
from pad_wire.question import PLAIN, QuestionForm
from support.app import ExpectedLogLikelihood, Running
from support.fakes import FakeEngine, byte_tokenizer

CHANGES_ANSWERS = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] == 'assistant' %}{{ m['content'] | replace('best', 'worst') }}{% else %}{{ m['content'] }}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

pytestmark = pytest.mark.anyio


def ids(text: str) -> list[int]:
    return byte_tokenizer()(text, add_special_tokens=False)["input_ids"]


FORM = QuestionForm(user="{request}\n\n{options}\n\nWhich is best?", option="[{letter}] {text}", answer="I pick [")


async def test_a_begun_answer_gives_the_letters_of_float64(
    running: Running, engine: Any, expected: ExpectedLogLikelihood, tmp_path: Path
) -> None:
    file = tmp_path / "question.yaml"
    file.write_text(yaml.safe_dump(FORM.model_dump(exclude_none=True)))
    encoder = ChatEncoder.of(byte_tokenizer())
    asked = ids("<|user|>hi\n\n[A] yes\n\n[B] no\n\nWhich is best?<|end|><|assistant|>I pick [")
    body = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}], "orders": "single"}
    async with running(lambda: Teacher.of("fake", encoder, engine, read_question(file))) as (client, service):
        while service.status == "starting":
            await anyio.sleep(0.001)
        item = (await client.post("/v1/selection", json=body)).json()["sets"][0]
        first, second = (math.log(r["selection_probability"] * item["label_mass"]) for r in item["responses"])
        assert first == expected(asked, ids("A"))
        assert second == expected(asked, ids("B"))
        card = (await client.get("/v1/models")).json()["data"][0]
        assert card["question"] == FORM.model_dump(exclude_none=True)


async def test_another_question_is_another_fingerprint(engine: Any) -> None:
    encoder = ChatEncoder.of(byte_tokenizer())
    ids_of = {Teacher.of("fake", encoder, engine, form).id.fingerprint for form in (None, QuestionForm(), FORM)}
    assert len(ids_of) == 2


async def test_models_shows_the_question(client: httpx.AsyncClient) -> None:
    question = (await client.get("/v1/models")).json()["data"][0]["question"]
    assert question["answer"] == "The best response is ("
    assert question["user"].startswith("{request}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user: '{options}'", "user: {request} must stand in it exactly once"),
        ("options: '({letter}) {text}'", "options: Extra inputs are not permitted"),
        ("- a list", "the file: "),
        ("user: [", "while parsing a flow"),
        ("answer: !!python/object:os.system {}", "could not determine a constructor"),
        ("answer: 2020-13-45", "is not YAML: month must be in 1..12"),
        ("answer: !!bool x", "is not YAML"),
        ("answer: \0", "is not YAML"),
    ],
)
def test_a_wrong_question_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "question.yaml"
    file.write_text(text)
    with pytest.raises(CannotServe) as refused:
        read_question(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_question_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match=r"none\.yaml"):
        read_question(tmp_path / "none.yaml")


def test_a_tokenizer_that_joins_the_letter_is_told_with_a_remedy() -> None:
    tokenizer, engine = byte_tokenizer(), FakeEngine()
    engine.vocabulary = 300
    tokenizer.add_tokens([f"[{letter}" for letter in "ABC"])
    with pytest.raises(CannotServe, match="--question FILE"):
        Teacher.of("fake", ChatEncoder.of(tokenizer), engine, FORM)


@pytest.mark.parametrize("letters", ["ABC", "C"])
def test_a_tokenizer_that_joins_letters_is_asked_plainly(letters: str) -> None:
    tokenizer, engine = byte_tokenizer(), FakeEngine()
    engine.vocabulary = 300
    tokenizer.add_tokens([f"({letter}" for letter in letters])
    teacher = Teacher.of("fake", ChatEncoder.of(tokenizer), engine)
    assert teacher.question == PLAIN
    assert teacher.letter_ids[:3] == [ids(letter)[0] for letter in "ABC"]


def test_a_template_that_changes_answers_is_asked_plainly() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHANGES_ANSWERS
    assert Teacher.of("fake", ChatEncoder.of(tokenizer), FakeEngine()).question == PLAIN
