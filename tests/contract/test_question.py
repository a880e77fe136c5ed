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
from pad_wire.question import QuestionForm
from support.app import ExpectedLogLikelihood, Running
from support.fakes import FakeEngine, byte_tokenizer

pytestmark = pytest.mark.anyio


def ids(text: str) -> list[int]:
    return byte_tokenizer()(text, add_special_tokens=False)["input_ids"]


FORM = QuestionForm(
    user="{request}\n\n{options}\n\nWhich is best?", option="({letter}) {text}", answer="The best response is ("
)


async def test_a_begun_answer_gives_the_letters_of_float64(
    running: Running, engine: Any, expected: ExpectedLogLikelihood, tmp_path: Path
) -> None:
    file = tmp_path / "question.yaml"
    file.write_text(yaml.safe_dump(FORM.model_dump(exclude_none=True)))
    encoder = ChatEncoder.of(byte_tokenizer())
    asked = ids("<|user|>hi\n\n(A) yes\n\n(B) no\n\nWhich is best?<|end|><|assistant|>The best response is (")
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
    assert question["answer"] == ""
    assert question["user"].startswith("{request}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user: '{options}'", "user: {request} must stand in it exactly once"),
        ("options: '({letter}) {text}'", "options: Extra inputs are not permitted"),
        ("- a list", "the file: "),
        ("user: [", "while parsing a flow"),
        ("answer: !!python/object:os.system {}", "could not determine a constructor"),
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
    tokenizer.add_tokens([f"({letter}" for letter in "ABC"])
    with pytest.raises(CannotServe, match="--question FILE"):
        Teacher.of("fake", ChatEncoder.of(tokenizer), engine, FORM)
