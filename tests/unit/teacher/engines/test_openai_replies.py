"""What is read of a chat API's reply: spellings of letters, votes, and nothing that is not there."""

import json
import math
from typing import Any

import pytest

from pad_teacher.engines.openai.replies import (
    BadReply,
    NotThisWay,
    label_probabilities,
    letter_of_answer,
    letter_of_token,
    read_reply,
    vote,
)
from support.stub_upstream import said


def reply(text: str | None = "A", top: list[tuple[str, float]] | None = None) -> Any:
    return read_reply(json.dumps(said(text, top).body).encode())


@pytest.mark.parametrize("token", ["A", " A", "▁A", "ĠA", "(A", "A)", "**A", '"A"', "A.", "\nA"])
def test_every_spelling_of_a_letter_is_one(token: str) -> None:
    assert letter_of_token(token) == 0


@pytest.mark.parametrize("token", ["", "(", "An", "AB", "a", "1", "À", "I'd"])
def test_another_token_spells_no_letter(token: str) -> None:
    assert letter_of_token(token) is None


@pytest.mark.parametrize("text", ["B", " B ", "B.", "(B)", "**B**", "B)", "B: the second", "B\n\nbecause", '"B"'])
def test_an_answer_that_names_a_letter_is_a_vote(text: str) -> None:
    assert letter_of_answer(text) == 1


@pytest.mark.parametrize(
    "text", ["", "A good answer is B", "I'd say B", "I, for one", "Answer: B", "b", "The best is B", "BC", "<html>"]
)
def test_prose_is_no_vote(text: str) -> None:
    assert letter_of_answer(text) is None


def test_spellings_are_summed_and_the_rest_is_known() -> None:
    top = [("A", 0.5), (" A", 0.2), ("B", 0.1), ("The", 0.05)]
    a, b, c, rest, least = label_probabilities(reply("A", top), 3).tolist()
    assert [a, b, c] == pytest.approx([0.7, 0.1, 0.0])
    assert rest == pytest.approx(0.15)
    assert least == pytest.approx(0.05)


def test_letters_that_no_option_has_do_not_count() -> None:
    assert label_probabilities(reply("C", [("C", 0.9), ("A", 0.1)]), 2)[:2].tolist() == pytest.approx([0.1, 0.0])
    assert vote(reply("C"), 2).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("top", [None, []])
def test_a_reply_without_log_probabilities_gives_none(top: list[tuple[str, float]] | None) -> None:
    answer = reply("A")
    if top is not None:
        body = said("A", [("A", 1.0)]).body
        body["choices"][0]["logprobs"]["content"] = []
        answer = read_reply(json.dumps(body).encode())
    with pytest.raises(NotThisWay, match="no log-probabilities"):
        label_probabilities(answer, 2)


@pytest.mark.parametrize("value", [math.nan, 0.5, "x", None])
def test_a_number_that_is_no_log_probability_is_refused(value: Any) -> None:
    body = said("A", [("A", 0.9)]).body
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = value
    with pytest.raises(BadReply, match="logprob"):
        read_reply(json.dumps(body).encode())


@pytest.mark.parametrize("content", [b"<html>sk-1</html>", b"", b"[]", b'{"choices": []}', b'{"model": "m"}'])
def test_what_is_no_chat_reply_is_refused_unquoted(content: bytes) -> None:
    with pytest.raises(BadReply) as refused:
        read_reply(content)
    assert "sk-1" not in str(refused.value)
