"""``POST /v1/completions``, in OpenAI's form as lm-evaluation-harness sends it."""

import json
from typing import Any

import httpx
import pytest

from support.app import ExpectedLogLikelihood
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
    assert "logprobs" not in bare


async def test_a_character_of_several_tokens_has_one_offset(client: httpx.AsyncClient) -> None:
    body = {"prompt": "A👍B", "echo": True, "logprobs": 1, "max_tokens": 0}
    choice = (await client.post("/v1/completions", json=body)).json()["choices"][0]
    assert choice["text"] == "A👍B"
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
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
    ],
)
async def test_what_cannot_be_done_is_refused_in_one_line(
    client: httpx.AsyncClient, changes: dict[str, object], status: int
) -> None:
    reply = await client.post("/v1/completions", content=json.dumps({"prompt": "A"} | changes))
    assert reply.status_code == status
    assert "\n" not in reply.json()["error"]["message"]
