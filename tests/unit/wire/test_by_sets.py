"""Large bodies read set by set: as the whole is read, whatever is in them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_wire import LikelihoodRequest, ScoreRequest, by_sets
from pad_wire.by_sets import parse_by_sets
from pad_wire.scoring import MAX_SETS, ScoringRequest
from pad_wire.validation import InvalidBody, parse

ONE = {"prompt": "p", "responses": ["a", {"text": "b", "finished": False}]}
TALK = {"id": "k", "prompt": [{"role": "user", "content": 'a "[{,'}], "responses": ["]},", "\\"]}

texts = st.sampled_from(["", "a", '"', "\\", '\\"', "[", "}],", "é", "\ud800", "\n", '"sets":[', "👩"])
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, -1, 1.5, 1e308, float("nan"), float("inf")]) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(["text"]), inner, max_size=3),
    max_leaves=6,
)
responses = st.lists(texts | st.fixed_dictionaries({"text": texts}, optional={"finished": st.booleans()}), max_size=4)
prompts = texts | st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=2)
right = st.sampled_from([ONE, TALK])
near = st.fixed_dictionaries({"prompt": prompts, "responses": responses}, optional={"id": texts, "x": values})
sets = st.lists(right, min_size=1, max_size=4) | st.lists(right | near, max_size=5) | st.lists(right | values)
kinds = {"per_token": st.just(True), "truncate": values, "alpha": values, "y": values}
fields = st.fixed_dictionaries({}, optional=kinds)
# What is cut out of the text, and put in its place.
signs = [b"", b'"', b"\\", b",", b"]", b"}", b"[", b"{", b" \n", b"1", b"NaN", b"\x00", b"\xff", b"\\ud800"]
pieces = [*signs, b"\xef\xbb\xbf", b'"sets":[],', b'"s\\u0065ts":[],', b'{"prompt":"p","responses":["a"]},']
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), st.sampled_from(pieces)), max_size=3)


def outcome(read: Any, model: type[ScoringRequest], body: bytes) -> Any:
    try:
        return read(model, body).model_dump()
    except InvalidBody as error:
        return error.detail


def by_parts(model: type[ScoringRequest], body: bytes) -> ScoringRequest:
    return parse_by_sets(model, memoryview(body))


@pytest.fixture(autouse=True, scope="module")
def _all_are_large() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_sets, "LARGE_BYTES", 0)
        yield


@settings(max_examples=150, deadline=None)
@given(sets, fields, st.booleans(), st.sampled_from([None, 1]), st.booleans(), edits)
def test_what_is_read_set_by_set_is_accepted_or_refused_exactly_as_the_whole(
    of: list[Any], around: dict[str, Any], first: bool, indent: int | None, plain: bool, changes: list[Any]
) -> None:
    whole = {"sets": of} | around if first else around | {"sets": of}
    body = json.dumps(whole, indent=indent, ensure_ascii=plain).encode(errors="surrogatepass")
    for share, cut, put in changes:
        at = int(share * len(body))
        body = body[:at] + put + body[at + cut :]
    assert outcome(by_parts, ScoreRequest, body) == outcome(parse, ScoreRequest, body)


MANY = {f"x{k}": 1 for k in range(60)}
FORMS = {
    "too many sets": {"sets": [ONE] * (MAX_SETS + 1)},
    "too many sets and a wrong one": {"sets": [ONE] * 5 + [{}] + [ONE] * MAX_SETS},
    "as many sets as may be": {"sets": [ONE] * MAX_SETS},
    "a wrong set and wrong fields": {"sets": [ONE, ONE, {"prompt": ""}, 5], "per_token": 1, "x": 1},
    "a wrong first set and wrong fields": {"sets": [{"prompt": ""}, 5], "per_token": 1, "x": 1},
    "hundreds of unknown fields": {"sets": [ONE, {"prompt": 1}], **{f"x{k}": 1 for k in range(300)}},
    "errors of two parts past what is listed": {"sets": [ONE, MANY], **MANY},
    "sets within sets": {"sets": [ONE, {"sets": [ONE]}]},
    "sets of another object": {"x": {"sets": [ONE, ONE]}},
    "no set": {"sets": []},
    "no list": {"sets": "x" * 1000, "y": [[1, 2], [3]]},
    "a flat list": {"sets": ["a", "b"], "y": [[1], [2]]},
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_body_is_answered_as_when_read_whole(name: str) -> None:
    body = json.dumps(FORMS[name]).encode()
    assert outcome(by_parts, LikelihoodRequest, body) == outcome(parse, LikelihoodRequest, body)


@pytest.mark.parametrize("sets", [b",%s", b"%s,", b"%s,,%s", b" , ", b"%s %s", b"%s]", b"[%s"])
def test_commas_and_brackets_too_many_are_no_json_either_way(sets: bytes) -> None:
    body = b'{"sets":[%s]}' % sets.replace(b"%s", json.dumps(ONE).encode())
    assert outcome(by_parts, LikelihoodRequest, body) == outcome(parse, LikelihoodRequest, body)
    assert outcome(by_parts, LikelihoodRequest, body).code == "invalid_json"


@pytest.mark.parametrize("depth", range(190, 205))
def test_what_is_nested_too_deep_is_no_json_either_way(depth: int) -> None:
    body = b'{"sets":[%s,{"x":%s}]}' % (json.dumps(ONE).encode(), b"[" * depth + b"]" * depth)
    assert outcome(by_parts, LikelihoodRequest, body) == outcome(parse, LikelihoodRequest, body)


def test_a_body_of_many_sets_is_read_a_set_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    read = LikelihoodRequest.model_validate_json

    def watched(body: bytes) -> LikelihoodRequest:
        nonlocal longest
        longest = max(longest, len(body))
        return read(body)

    monkeypatch.setattr(LikelihoodRequest, "model_validate_json", watched)
    body = json.dumps({"sets": [TALK] * 500, "truncate": True}).encode()
    assert len(by_parts(LikelihoodRequest, body).sets) == 500
    assert longest < 3 * len(json.dumps(TALK))


@pytest.mark.parametrize("start", [b'{"sets":["', b'{"sets":[{"prompt":"', b'["'])
def test_a_string_that_never_ends_is_looked_through_a_few_times_only(start: bytes) -> None:
    body = start + rb"\"" * 1_000_000
    assert outcome(by_parts, LikelihoodRequest, body).code == "invalid_json"
