"""``POST /v1/completions``, in OpenAI's form as lm-evaluation-harness sends it."""

import json
from typing import Any

import httpx
import pytest

from support.app import ExpectedLogLikelihood, Running
from support.fakes import FakeEngine, byte_tokenizer

pytestmark = pytest.mark.anyio

LM_EVAL = {"model": "fake", "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}


async def test_what_lm_evaluation_harness_sends_gets_what_it_reads(
    client: httpx.AsyncClient, expected: ExpectedLogLikelihood
) -> None:
    context, continuation = [65, 66, 67], [68, 69]
    reply = (await client.post("/v1/completions", json=LM_EVAL | {"prompt": [[*context, *continuation]]})).json()
    (choice,) = reply["choices"]
    logprobs = choice["logprobs"]
    # The harness adds up what lies between the context and the one new token, and compares each with its top.
    values = logprobs["token_logprobs"][len(context) : -1]
    tops = logprobs["top_logprobs"][len(context) : -1]
    assert sum(values) == expected(context, continuation)
    assert all(len(top) == 1 for top in tops)
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["text_offset"]) == 6


async def test_rolling_tasks_fit_with_the_documented_max_length(
    client: httpx.AsyncClient, expected: ExpectedLogLikelihood
) -> None:
    """The guide says ``max_length`` = ``max_context_tokens``. The harness keeps a place of it for the new token."""
    (card,) = (await client.get("/v1/models")).json()["data"]
    max_length = card["limits"]["max_context_tokens"]
    text = [65 + place % 26 for place in range(2 * max_length)]
    window = max_length - 1  # a token of context, and the rest of it scored
    for prompt in (text[:window], text[window - 1 : 2 * window - 1]):
        reply = (await client.post("/v1/completions", json=LM_EVAL | {"prompt": [prompt]})).json()
        assert sum(reply["choices"][0]["logprobs"]["token_logprobs"][1:-1]) == expected(prompt[:1], prompt[1:])
    refused = (await client.post("/v1/completions", json=LM_EVAL | {"prompt": [text[: window + 1]]})).json()
    assert refused["error"]["code"] == "too_long"
    assert str(max_length) in refused["error"]["message"]


async def test_the_new_token_is_the_likeliest_and_follows_the_echo(client: httpx.AsyncClient) -> None:
    reply = (await client.post("/v1/completions", json=LM_EVAL | {"prompt": "AB"})).json()
    (choice,) = reply["choices"]
    top = choice["logprobs"]["top_logprobs"][-1]
    assert choice["logprobs"]["token_logprobs"][-1] == max(top.values())
    assert choice["text"] == "AB" + choice["logprobs"]["tokens"][-1]
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}


async def test_text_and_its_token_ids_score_the_same(client: httpx.AsyncClient) -> None:
    ids = byte_tokenizer()("hello")["input_ids"]
    bodies = [LM_EVAL | {"prompt": prompt, "max_tokens": 0} for prompt in ("hello", ids, ["hello"], [ids])]
    replies = [(await client.post("/v1/completions", json=body)).json()["choices"] for body in bodies]
    assert all(reply == replies[0] for reply in replies)
    assert replies[0][0]["text"] == "hello"


async def test_without_echo_only_the_new_token_comes_back(client: httpx.AsyncClient, engine: Any) -> None:
    reply = (await client.post("/v1/completions", json={"prompt": ["A", "B"], "logprobs": 3})).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    tops = [len(choice["logprobs"]["top_logprobs"][0]) for choice in reply["choices"]]
    # A random model's likeliest tokens may be halves of characters, which read the same and are shown once.
    assert tops == [3, 3] if isinstance(engine, FakeEngine) else all(0 < top <= 3 for top in tops)
    bare = (await client.post("/v1/completions", json={"prompt": "A"})).json()["choices"][0]
    assert bare["logprobs"] is None


async def test_a_character_of_several_tokens_has_one_offset(client: httpx.AsyncClient) -> None:
    body = {"prompt": "A👍B", "echo": True, "logprobs": 1, "max_tokens": 0}
    choice = (await client.post("/v1/completions", json=body)).json()["choices"][0]
    assert choice["text"] == "A👍B"
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 1, 1, 2]


FIELDS = ("model", "echo", "logprobs", "max_tokens", "temperature", "seed", "user", "n", "best_of", "stream")
MORE_FIELDS = ("stream_options", "top_p", "frequency_penalty", "presence_penalty", "stop", "suffix", "logit_bias")
NULLABLE = FIELDS + MORE_FIELDS
# What OpenAI's clients send if nothing is set.
NEUTRAL = {"temperature": 1, "top_p": 1, "n": 1, "best_of": 1, "frequency_penalty": 0, "presence_penalty": 0}
DEFAULTS: dict[str, Any] = NEUTRAL | {"logit_bias": {}, "stream": False, "stop": ["\n"], "seed": 1}


async def test_null_is_the_default_of_every_field(client: httpx.AsyncClient) -> None:
    plain = await client.post("/v1/completions", json={"prompt": "A"})
    nulls = await client.post("/v1/completions", json={"prompt": "A"} | dict.fromkeys(NULLABLE))
    assert nulls.json()["choices"] == plain.json()["choices"]


async def test_sampling_settings_pass_where_no_token_is_new(client: httpx.AsyncClient) -> None:
    body = {"prompt": "AB", "echo": True, "logprobs": 1, "max_tokens": 0}
    plain = await client.post("/v1/completions", json=body)
    for changes in (DEFAULTS, {"temperature": 0.7, "top_p": 0.5, "presence_penalty": -2}):
        reply = await client.post("/v1/completions", json=body | changes)
        assert reply.json()["choices"] == plain.json()["choices"]
    assert (await client.post("/v1/completions", json=body | DEFAULTS | {"max_tokens": 1})).status_code == 422


@pytest.mark.parametrize(
    "changes",
    [{"max_tokens": 256, "temperature": 0.7}, {"temperature": 1}, {"n": 2}, {"best_of": 3}, {"stream": True}],
)
async def test_who_wants_text_reads_that_this_service_scores(
    client: httpx.AsyncClient, changes: dict[str, object]
) -> None:
    error = (await client.post("/v1/completions", json={"prompt": "A"} | changes)).json()["error"]
    field = next(iter(changes))
    assert error["where"] == error["param"] == field
    assert error["message"].startswith(f"{field}: this service scores; it does not generate")


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/responses"])
async def test_routes_that_generate_say_that_this_one_scores(client: httpx.AsyncClient, route: str) -> None:
    reply = await client.post(route, json={"model": "fake", "messages": [{"role": "user", "content": "hi"}]})
    assert reply.status_code == 404
    assert "this service scores; it does not generate" in reply.json()["error"]["message"]


@pytest.mark.parametrize("prompt", [["a"] * 1025, [[1]] * 1025])
async def test_too_many_prompts_are_named_with_the_limit(client: httpx.AsyncClient, prompt: list[Any]) -> None:
    error = (await client.post("/v1/completions", json={"prompt": prompt})).json()["error"]
    assert error["message"] == "prompt: List should have at most 1024 items after validation, not 1025"


@pytest.mark.parametrize("field", [*NULLABLE, "prompt", "add_special_tokens"])
@pytest.mark.parametrize("value", [b"NaN", b"1e999", b'{"a": [true]}', b"[[true]]"])
async def test_no_field_takes_a_value_of_another_kind(client: httpx.AsyncClient, field: str, value: bytes) -> None:
    reply = await client.post("/v1/completions", content=b'{"prompt": "A", "%s": %s}' % (field.encode(), value))
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("field", ["n", "best_of", "max_tokens", "logprobs", "seed", "temperature", "top_p"])
async def test_true_is_no_number_and_zero_is_no_false(client: httpx.AsyncClient, field: str) -> None:
    assert (await client.post("/v1/completions", json={"prompt": "A", field: True})).status_code == 422
    for boolean in ("echo", "stream", "add_special_tokens"):
        assert (await client.post("/v1/completions", json={"prompt": "A", boolean: 0})).status_code == 422
    if field not in ("temperature", "top_p"):
        assert (await client.post("/v1/completions", json={"prompt": "A", field: 1.0})).status_code == 422


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"prompt": [[262]]}, 422),
    ({"prompt": [[-1]]}, 422),
    ({"prompt": [[]]}, 422),
    ({"prompt": []}, 422),
    ({"prompt": ""}, 422),
    ({"prompt": [True]}, 422),
    ({"prompt": [[1] * 2048]}, 422),
    ({"max_tokens": 2}, 422),
    ({"temperature": 0.7}, 422),
    ({"n": 2}, 422),
    ({"stream": True}, 422),
    ({"logprobs": 6}, 422),
    ({"model": "gpt-4"}, 404),
]


@pytest.mark.parametrize(("changes", "status"), REFUSED)
async def test_what_cannot_be_done_is_refused_in_one_line(
    client: httpx.AsyncClient, changes: dict[str, object], status: int
) -> None:
    reply = await client.post("/v1/completions", content=json.dumps({"prompt": "A"} | changes))
    assert reply.status_code == status
    assert "\n" not in reply.json()["error"]["message"]


async def test_completions_have_half_of_the_largest_body(running: Running) -> None:
    async with running(max_body_bytes=4096) as (client, _):
        for size, status in ((1900, 200), (2100, 413)):
            body = json.dumps(LM_EVAL | {"prompt": "A", "user": "u"}).ljust(size)
            assert (await client.post("/v1/completions", content=body)).status_code == status
        sets = json.dumps({"sets": [{"prompt": "A", "responses": ["B"]}]})
        assert (await client.post("/v1/likelihood", content=sets.ljust(4000))).status_code == 200
