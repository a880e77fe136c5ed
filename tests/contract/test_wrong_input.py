"""Requests that are wrong: one short line for each, and a service that goes on."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from support.app import Running

pytestmark = pytest.mark.anyio

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}


def one(**changes: Any) -> bytes:
    return json.dumps({"sets": [{"prompt": "hi", "responses": ["yes", "no"]} | changes]}).encode()


WRONG: dict[str, tuple[bytes, int, str]] = {
    "not JSON": (b"hello", 400, "invalid_json"),
    "bad UTF-8": (b'{"sets": "\xff"}', 400, "invalid_json"),
    "200k nesting": (b"[" * 200_000, 400, "invalid_json"),
    "empty body": (b"", 400, "invalid_json"),
    "a list": (b"[]", 422, "invalid_request"),
    "no sets": (b"{}", 422, "invalid_request"),
    "empty sets": (b'{"sets": []}', 422, "invalid_request"),
    "unknown field": (json.dumps(ONE | {"chat_template": "{{ 7 * 7 }}"}).encode(), 422, "invalid_request"),
    "unknown field of a set": (one(url="http://example.org"), 422, "invalid_request"),
    "empty prompt": (one(prompt=""), 422, "invalid_request"),
    "no messages": (one(prompt=[]), 422, "invalid_request"),
    "a message without a role": (one(prompt=[{"content": "x"}]), 422, "invalid_request"),
    "an unknown role": (one(prompt=[{"role": "bishop", "content": "x"}]), 422, "invalid_request"),
    "a data set's own role": (one(prompt=[{"role": "human", "content": "x"}]), 422, "invalid_request"),
    "a role the template refuses": (one(prompt=[{"role": "tool", "content": "x"}]), 422, "template_refused"),
    "empty response list": (one(responses=[]), 422, "invalid_request"),
    "number for a response": (one(responses=[1, 2]), 422, "invalid_request"),
    "nothing to score": (one(responses=["a", {"text": "", "finished": False}]), 422, "invalid_request"),
    "string for a boolean": (one(responses=[{"text": "a", "finished": "true"}, "b"]), 422, "invalid_request"),
    "lone surrogate": (b'{"sets": [{"prompt": "\\ud800", "responses": ["a", "b"]}]}', 400, "invalid_json"),
    "NaN": (b'{"sets": [{"prompt": "a", "responses": ["a", "b"]}], "alpha": NaN}', 422, "invalid_request"),
    "1e999": (b'{"sets": [{"prompt": "a", "responses": ["a", "b"]}], "alpha": 1e999}', 422, "invalid_request"),
    "boolean for a number": (json.dumps(ONE | {"alpha": True}).encode(), 422, "invalid_request"),
    "string for a number": (json.dumps(ONE | {"alpha": "0.5"}).encode(), 422, "invalid_request"),
    "alpha past 1": (json.dumps(ONE | {"alpha": 1.5}).encode(), 422, "invalid_request"),
    "unknown orders": (json.dumps(ONE | {"orders": "random"}).encode(), 422, "invalid_request"),
    "27 options": (one(responses=["x"] * 27), 422, "too_many_options"),
    "720 orders": (
        json.dumps({"sets": [{"prompt": "a", "responses": ["x"] * 6}], "orders": "all"}).encode(),
        422,
        "too_many_options",
    ),
    "one option": (one(responses=["x"]), 422, "invalid_request"),
    "prompt past the context": (one(prompt="x" * 3000), 422, "too_long"),
    "response past the context": (one(responses=["x" * 3000, "y"]), 422, "too_long"),
    "1 MB wrong field": (json.dumps({"sets": "x" * 2**20}).encode(), 422, "invalid_request"),
    "1 MB field name": (json.dumps(ONE | {"x" * 2**20: 1}).encode(), 422, "invalid_request"),
    "1 MB of wrong ids": (
        json.dumps({"sets": [{"prompt": [-1] * 300_000, "responses": ["a"]}]}).encode(),
        422,
        "invalid_request",
    ),
    "50,000 unknown fields": (json.dumps(ONE | {f"x{k}": 1 for k in range(50_000)}).encode(), 422, "invalid_request"),
    "50 MB body": (b" " * 50_000_000, 413, "body_too_large"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_input_gets_one_short_line_and_the_service_goes_on(client: httpx.AsyncClient, name: str) -> None:
    body, status, code = WRONG[name]
    reply = await client.post("/v1/score", content=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert error["retryable"] is False
    assert "\n" not in error["message"]
    assert len(reply.content) < 400
    assert (await client.post("/v1/score", json=ONE)).status_code == 200


async def test_errors_name_the_field_and_never_repeat_the_input(client: httpx.AsyncClient) -> None:
    body = {"sets": [ONE["sets"][0], {"prompt": [{"role": "user", "content": 5}], "responses": ["a"], "secret": 1}]}
    reply = await client.post("/v1/likelihood", json=body)
    error = reply.json()["error"]
    assert error["where"] == error["param"] == "sets[1].prompt[0].content"
    assert error["message"].startswith("sets[1].prompt[0].content: ")
    assert "secret" not in reply.text


async def test_control_characters_and_split_emoji_are_scored_exactly(client: httpx.AsyncClient) -> None:
    body = {"sets": [{"prompt": "a\u0000b", "responses": ["\u0000", "👩‍👩", "\u200d"]}]}
    reply = await client.post("/v1/likelihood", json=body)
    assert [r["tokens"] for r in reply.json()["sets"][0]["responses"]] == [2, 12, 4]


@pytest.mark.parametrize("value", ["soon", "-1", "0", "1e3", "٣", "99999999999", "0000000000019" + "9" * 400, ""])
async def test_a_deadline_is_a_whole_number_of_milliseconds(client: httpx.AsyncClient, value: str) -> None:
    headers: Any = {"X-Deadline-Ms": value.encode()}
    reply = await client.post("/v1/score", json=ONE, headers=headers)
    assert reply.status_code == 422


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(running: Running) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b"x" * 1024

    async with running(max_body_bytes=10_000) as (client, _):
        reply = await client.post("/v1/score", content=endless())
    assert reply.status_code == 413
    assert sent < 20_000


async def test_unknown_routes_and_methods_have_the_same_error_shape(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/nothing")).json()["error"]["code"] == "not_found"
    assert (await client.get("/v1/score")).json()["error"]["code"] == "method_not_allowed"


async def test_a_bug_shows_its_request_id_and_nothing_else(running: Running) -> None:
    async with running() as (client, service):
        service.usage.count = lambda *_: 1 / 0  # type: ignore[method-assign]
        reply = await client.post("/v1/score", json=ONE, headers={"X-Request-Id": "abc"})
    assert reply.status_code == 500
    assert reply.json() == {
        "error": {"code": "internal", "message": "internal error; request abc", "retryable": False}
    }
    assert reply.headers["X-Request-Id"] == "abc"


async def test_errors_in_large_bodies_are_named_as_in_small_ones(client: httpx.AsyncClient) -> None:
    wrong = {"prompt": [{"role": "user", "content": 5}], "responses": ["a"]}
    body = {"sets": [*[ONE["sets"][0] | {"prompt": "x" * 1000}] * 300, wrong, {}], "secret": 1}
    reply = await client.post("/v1/likelihood", json=body)
    assert reply.json()["error"]["where"] == "sets[300].prompt[0].content"
    assert reply.json()["error"]["message"].endswith(" (and 1 more)")
    assert "secret" not in reply.text
