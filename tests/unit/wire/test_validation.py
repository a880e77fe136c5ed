"""Bodies that are read or refused, and where the error is said to be."""

import json
from typing import Any

import pytest

from pad_wire import ErrorDetail, LikelihoodRequest
from pad_wire.scoring import MAX_SETS
from pad_wire.validation import InvalidBody, parse

ONE = {"prompt": "p", "responses": ["a", {"text": "b", "finished": False}]}


def error_of(body: bytes) -> ErrorDetail:
    with pytest.raises(InvalidBody) as caught:
        parse(LikelihoodRequest, body)
    return caught.value.detail


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
    assert error.message == "an unknown field; known are sets, truncate, per_token, unconditional"
    error = error_of(json.dumps({"sets": [ONE | {"secret": 1}]}).encode())
    assert (error.where, "secret" in error.message) == ("sets[0]", False)


@pytest.mark.parametrize("sets", [b",%s", b"%s,", b"%s,,%s", b" , ", b"%s %s", b"%s]", b"[%s", b'"', b"\xff"])
def test_broken_brackets_and_commas_are_not_json(sets: bytes) -> None:
    body = b'{"sets":[%s]}' % sets.replace(b"%s", json.dumps(ONE).encode())
    assert error_of(body).code == "invalid_json"


def test_deep_nesting_is_not_json() -> None:
    body = b'{"sets":[%s,{"x":%s}]}' % (json.dumps(ONE).encode(), b"[" * 300 + b"]" * 300)
    assert error_of(body).code == "invalid_json"
