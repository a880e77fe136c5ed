"""Bodies that are read part by part: the same request, or the same error, as when they are read whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.api.reading import IDS_A_STEP, LARGE_BYTES, MOST_FIELDS, MOST_VALUES, TEXTS_A_STEP, read_request
from pad_teacher.api.wide_objects import has_wide_object
from pad_wire import ErrorDetail, LikelihoodRequest, ScoreRequest
from pad_wire.completions import CompletionRequest
from pad_wire.scoring import MAX_SETS
from pad_wire.text import WireModel
from pad_wire.validation import InvalidBody, parse
from support.steps import finished

texts = st.sampled_from(["a", "", "é", "\ud83d\ude42", "\x00"])
wrong = st.sampled_from([None, 1, True, 1.5, [], {}, {"text": 1}, {"role": "user"}, ["a"], {"unknown": 1}])
response = st.one_of(texts, st.fixed_dictionaries({"text": texts}, optional={"finished": st.booleans()}), wrong)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "nobody"]), "content": texts})
prompt = st.one_of(texts, st.lists(message, max_size=2), wrong)
fields = {"prompt": prompt, "responses": st.lists(response, max_size=3)}
a_set = st.one_of(st.fixed_dictionaries(fields, optional={"id": st.one_of(texts, wrong)}), wrong)
request = st.fixed_dictionaries(
    {"sets": st.one_of(st.lists(a_set, max_size=3), wrong)},
    optional={"alpha": st.one_of(st.floats(), wrong), "truncate": wrong, "unknown": wrong, "form": texts},
)


def outcome(read: Any) -> Any:
    try:
        return read()
    except InvalidBody as error:
        return error.detail


ids = st.lists(st.one_of(st.integers(0, 3), st.integers(), wrong), max_size=3)
prompts = st.one_of(texts, ids, st.lists(st.one_of(texts, ids), max_size=3), wrong)
completion = st.fixed_dictionaries({"prompt": prompts}, optional={"echo": wrong, "stop": texts, "unknown": wrong})


@given(
    st.one_of(
        st.tuples(st.just(ScoreRequest), st.one_of(request, wrong)),
        st.tuples(st.just(CompletionRequest), st.one_of(completion, wrong)),
    )
)
def test_a_body_in_parts_is_the_body_as_a_whole(asked: tuple[type[WireModel], Any]) -> None:
    model, value = asked
    body = bytearray(json.dumps(value).encode())
    whole = outcome(lambda: parse(model, body))
    parts = outcome(lambda: finished(read_request(model, body, large_bytes=0)))
    if isinstance(whole, WireModel) and not isinstance(whole, ErrorDetail):
        assert parts == whole
    else:
        assert (parts.code, parts.retryable) == (whole.code, whole.retryable)  # the first error, or one of others


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"sets":', b'{"sets":[NaN]}', b"\xff", b"[" * 1000, b'{"sets":["\\ud800"]}']
)
def test_no_json_is_refused_as_ever(body: bytes) -> None:
    whole = outcome(lambda: parse(LikelihoodRequest, body))
    assert outcome(lambda: finished(read_request(LikelihoodRequest, bytearray(body), large_bytes=0))) == whole


def test_an_error_names_its_place_among_all_sets() -> None:
    sets: list[Any] = [{"prompt": "a", "responses": ["b"]} for _ in range(5)]
    sets[3]["responses"] = ["b", 7]
    body = bytearray(json.dumps({"sets": sets}).encode())
    assert outcome(lambda: finished(read_request(LikelihoodRequest, body, large_bytes=0))).where == (
        "sets[3].responses[1]"
    )


def test_many_texts_are_read_in_many_steps() -> None:
    sets = [{"prompt": "a", "responses": ["b"] * 64}] * MAX_SETS
    steps = read_request(LikelihoodRequest, bytearray(json.dumps({"sets": sets}).encode()))
    assert len(list(steps)) > MAX_SETS


@pytest.mark.parametrize(
    ("prompt", "least"),
    [
        ([7] * 3 * IDS_A_STEP, 3),
        ([[7] * 30] * 1024, 1024 // TEXTS_A_STEP),
        (["a" * 60] * 1024, 1024 // TEXTS_A_STEP),
    ],
)
def test_completions_are_read_in_many_steps(prompt: Any, least: int) -> None:
    body = bytearray(json.dumps({"prompt": prompt}).encode())
    assert len(list(read_request(CompletionRequest, body))) >= least
    assert finished(read_request(CompletionRequest, body)) == parse(CompletionRequest, body)


@pytest.mark.parametrize("last", ["", -1, True, [1.5]])
def test_a_wrong_last_prompt_is_named_by_its_place(last: Any) -> None:
    for prompt in ([7] * 2 * IDS_A_STEP, [[7] * 30] * 1023, ["a" * 80] * 1023):
        body = bytearray(json.dumps({"prompt": [*prompt, last]}).encode())
        parts = outcome(lambda: finished(read_request(CompletionRequest, body)))  # noqa: B023
        whole = outcome(lambda: parse(CompletionRequest, body))  # noqa: B023
        assert (parts.code, parts.where) == (whole.code, whole.where)


def test_many_turns_are_read_in_many_steps() -> None:
    turns = [{"role": "user", "content": "a"}] * 10_000
    body = bytearray(json.dumps({"sets": [{"prompt": turns, "responses": ["b"]}]}).encode())
    assert len(list(read_request(LikelihoodRequest, body))) > 10_000 // TEXTS_A_STEP
    assert finished(read_request(LikelihoodRequest, body)) == parse(LikelihoodRequest, body)


def test_a_field_of_many_values_is_one_short_error() -> None:
    many: dict[str, Any] = {"stop": ["a" * 60] * (MOST_VALUES + 1)}
    detail = outcome(lambda: finished(read_request(CompletionRequest, bytearray(json.dumps(many).encode()))))
    assert (detail.code, len(detail.message) < 80) == ("invalid_request", True)


def test_many_unknown_fields_are_one_short_error() -> None:
    many = {f"field{number}": "" for number in range(LARGE_BYTES)}
    one = {"prompt": "a", "responses": ["b"]}
    assert len(many) > MOST_FIELDS
    for value in ({"sets": [one], **many}, {"sets": [one, one | many]}):
        detail = outcome(lambda: finished(read_request(LikelihoodRequest, bytearray(json.dumps(value).encode()))))  # noqa: B023
        assert (detail.code, len(detail.message) < 80) == ("invalid_request", True)


@pytest.mark.parametrize(
    ("body", "wide"),
    [
        (b'{"a":1,"b":2}', False),
        (b'{"a":1,"b":2,"c":3}', True),
        (b'[{"a":1,"b":2},{"c" :3, "d"\n: {"e":[5]}}]', False),
        (b'{"a":{"b":1,"c":2,"d":3}}', True),
        (b'{"a":"\\"b\\":1,\\"c\\":1,\\"d\\":1,","b":["c","d","e:"]}', False),
        (b'{"a":"{","b":"}"}', False),
        (b'}{"a":1,"b":2,"c":3}', False),
        (b'{"' + b'\\"' * 200_000, False),  # no end: in linear time
        (b"", False),
    ],
)
def test_an_object_of_many_fields_is_found_unread(body: bytes, wide: bool) -> None:
    assert finished(has_wide_object(bytearray(body), 2)) is wide


def test_many_fields_are_counted_in_many_steps() -> None:
    steps = has_wide_object(bytearray(json.dumps([{"a": "b"}] * 10_000).encode()), 2)
    assert len(list(steps)) > 20
