"""Bodies that are read or refused, and where the error is said to be."""

import json
from typing import Any

import pytest

from pad_wire import ErrorDetail, LikelihoodRequest
from pad_wire.near import nearest
from pad_wire.scoring import MAX_SETS
from pad_wire.validation import InvalidBody, parse

ONE = {"prompt": "p", "responses": ["a", {"text": "b", "finished": False}]}


def error_of(body: bytes) -> ErrorDetail:
    with pytest.raises(InvalidBody) as caught:
        parse(LikelihoodRequest, body)
    return caught.value.detail


def test_an_error_is_told_in_three_places_and_received_in_one() -> None:
    detail = ErrorDetail(code="too_long", message="too long", retryable=False, where="sets[1]")
    sent = detail.as_sent()
    assert (sent.where, sent.param, sent.message) == ("sets[1]", "sets[1]", "sets[1]: too long")
    assert sent.as_received() == detail
    assert detail.as_received() == detail, "as an older service sends it"
    nowhere = ErrorDetail(code="internal", message="internal error", retryable=False)
    assert nowhere.as_sent() == nowhere.as_received() == nowhere


def test_as_many_sets_as_may_be_are_read() -> None:
    body = json.dumps({"sets": [ONE] * MAX_SETS, "truncate": True}).encode()
    assert len(parse(LikelihoodRequest, bytearray(body)).sets) == MAX_SETS


REFUSED: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "too many sets": ({"sets": [ONE] * (MAX_SETS + 1)}, "sets", "1024 items"),
    "no set": ({"sets": []}, "sets", "at least 1 item"),
    "no list": ({"sets": "x", "y": [1]}, "sets", "(and 1 more)"),
    "a set that is a text": ({"sets": [ONE, "a", "b"]}, "sets[1]", "an object"),
    "sets within sets": ({"sets": [ONE, {"sets": [ONE]}]}, "sets[1].prompt", "(and 2 more)"),
    "a wrong set and wrong fields": ({"sets": [ONE, {"prompt": ""}], "x": 1}, "sets[1].prompt", "(and 2 more)"),
    "sets of another object": ({"x": {"sets": [ONE]}}, "sets", "(and 1 more)"),
    "hundreds of unknown fields": ({"sets": [ONE], **{f"x{k}": 1 for k in range(300)}}, None, "300 errors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_names_the_first_wrong_field(name: str) -> None:
    body, where, message = REFUSED[name]
    error = error_of(json.dumps(body).encode())
    assert (error.code, error.where) == ("invalid_request", where)
    assert message in error.message


def test_an_unknown_field_is_not_repeated() -> None:
    error = error_of(json.dumps({"sets": [ONE], "secret": 1}).encode())
    assert error.message == "an unknown field; known are sets, truncate, per_token, token_texts, unconditional"
    error = error_of(json.dumps({"sets": [ONE | {"secret": 1}]}).encode())
    assert (error.where, "secret" in error.message) == ("sets[0]", False)


MISSPELT: dict[str, tuple[dict[str, Any], str]] = {
    "of the request": ({"sets": [ONE], "trunkate": True}, "trunkate: no such field; did you mean truncate?"),
    "that is required": ({"set": [ONE]}, "set: no such field; did you mean sets?"),
    "of a set": (
        {"sets": [ONE, {"prommpt": "p", "responses": ["a"]}]},
        "sets[1].prommpt: no such field; did you mean",
    ),
    "of a turn": (
        {"sets": [{"prompt": [{"role": "user", "contents": "p"}], "responses": ["a"]}]},
        "sets[0].prompt[0].contents: no such field; did you mean content?",
    ),
    "of a response": (
        {"sets": [{"prompt": "p", "responses": ["a", {"text": "b", "finish": True}]}]},
        "sets[0].responses[1].finish: no such field; did you mean finished?",
    ),
    "of another program": ({"sets": [{"messages": "p", "responses": ["a"]}]}, "sets[0].messages: no such field; did"),
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_field_is_named_with_the_one_it_means(name: str) -> None:
    body, message = MISSPELT[name]
    sent = error_of(json.dumps(body).encode()).as_sent().message
    assert sent.startswith(message)
    assert sent.endswith("?")


@pytest.mark.parametrize(("role", "meant"), [("human", "user"), ("gpt", "assistant"), ("User", "user"), ("x", None)])
def test_an_unknown_role_is_refused_with_the_one_it_means(role: str, meant: str | None) -> None:
    error = error_of(json.dumps({"sets": [ONE | {"prompt": [{"role": role, "content": "hi"}]}]}).encode())
    assert error.where == "sets[0].prompt[0].role"
    assert error.message.startswith("Input should be 'system'")
    assert error.message.endswith(f"; did you mean {meant}?" if meant else "or 'tool'")


def test_a_near_name_is_sought_for_short_names_alone() -> None:
    assert nearest("prommpt", ["prompt"]) == "prompt"
    assert nearest("prompt" * 20, ["prompt"]) is None


@pytest.mark.parametrize("sets", [b",%s", b"%s,", b"%s,,%s", b" , ", b"%s %s", b"%s]", b"[%s", b'"', b"\xff"])
def test_broken_brackets_and_commas_are_not_json(sets: bytes) -> None:
    body = b'{"sets":[%s]}' % sets.replace(b"%s", json.dumps(ONE).encode())
    assert error_of(body).code == "invalid_json"


def test_deep_nesting_is_not_json() -> None:
    body = b'{"sets":[%s,{"x":%s}]}' % (json.dumps(ONE).encode(), b"[" * 300 + b"]" * 300)
    assert error_of(body).code == "invalid_json"
