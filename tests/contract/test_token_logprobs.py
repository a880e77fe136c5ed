"""``/v1/token_logprobs``: the numbers of each form, what it refuses, and what is computed once."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load, save

from pad_teacher.engines.pair import PairEngine
from pad_teacher.scoring.teacher import Teacher
from pad_wire import TeacherId
from pad_wire.chat import ChatEncoder
from pad_wire.token_logprobs import SAFETENSORS
from support.app import Running
from support.fakes import FakeEngine, byte_tokenizer, log_prob

pytestmark = pytest.mark.anyio

SETS = [
    {"id": "a", "prompt": "hi", "responses": ["yes", {"text": "no", "finished": False}]},
    {"prompt": "hello", "responses": ["maybe"]},
]
BINARY = {"Accept": SAFETENSORS}


def ids(text: str) -> list[int]:
    return byte_tokenizer()(text, add_special_tokens=False)["input_ids"]


class Other(FakeEngine):
    """A second model: each log-probability is 0.25 nats lower."""

    def _log_prob(self, prefix: Any, token: int) -> float:
        return log_prob(prefix, token) - 0.25


def pair(engine: FakeEngine) -> Teacher:
    reference = TeacherId(model="before", fingerprint="0" * 32)
    return Teacher.of("fake", ChatEncoder.of(byte_tokenizer()), PairEngine(engine, Other()), reference=reference)


async def ask(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return await client.post("/v1/token_logprobs", json={"sets": SETS} | fields, headers=headers)


async def tensors(client: httpx.AsyncClient, **fields: Any) -> tuple[dict[str, Any], dict[str, str]]:
    reply = await ask(client, BINARY, **fields)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == SAFETENSORS
    assert int(reply.headers["content-length"]) == len(reply.content)
    length = int.from_bytes(reply.content[:8], "little")
    return load(reply.content), json.loads(reply.content[8 : 8 + length])["__metadata__"]


async def test_tokens_come_with_their_likeliest_alternatives(client: httpx.AsyncClient) -> None:
    reply = (await ask(client, top=3)).json()
    first = reply["sets"][0]["responses"][0]
    prompt, end = ids("<|user|>hi<|end|><|assistant|>"), byte_tokenizer().convert_tokens_to_ids("<|end|>")
    assert first["token_ids"] == [*ids("yes"), end]
    for k, token in enumerate(first["token_ids"]):
        prefix = prompt + first["token_ids"][:k]
        values = np.array([log_prob(prefix, t) for t in range(262)])
        likeliest = np.argsort(-values)[:3]
        assert first["token_logprobs"][k] == pytest.approx(values[token], abs=1e-5)
        assert first["top_ids"][k] == likeliest.tolist()
        assert first["top_logprobs"][k] == pytest.approx(values[likeliest].tolist(), abs=1e-5)
        others = np.delete(values, likeliest)
        assert first["rest"][k] == pytest.approx(min(0, np.logaddexp.reduce(others)), abs=1e-4)
    assert [each["id"] for each in reply["sets"]] == ["a", "1"]
    assert reply["usage"]["response_tokens"] == 4 + 2 + 6


async def test_a_binary_reply_has_the_same_numbers_without_padding(client: httpx.AsyncClient) -> None:
    as_json = (await ask(client, top=3)).json()
    found, metadata = await tensors(client, top=3)
    assert found["offsets"].tolist() == [0, 4, 6, 12]
    responses = [response for each in as_json["sets"] for response in each["responses"]]
    for name in ("token_ids", "token_logprobs", "top_ids", "top_logprobs", "rest"):
        assert found[name].tolist() == [value for response in responses for value in response[name]]
    kinds = {name: str(array.dtype) for name, array in found.items()}
    assert kinds == {
        **dict.fromkeys(["offsets", "token_ids", "top_ids"], "uint32"),
        **dict.fromkeys(["token_logprobs", "top_logprobs", "rest"], "float32"),
    }
    assert json.loads(metadata["ids"]) == ["a", "1"]
    assert json.loads(metadata["responses"]) == [2, 1]
    assert metadata["fingerprint"] == as_json["teacher"]["fingerprint"]
    assert metadata["tokenizer"] == as_json["tokenizer"]
    assert json.loads(metadata["usage"]) == as_json["usage"]


async def test_a_token_of_both_teachers_takes_at_most_620_bytes(running: Running, engine: Any) -> None:
    long = [{"prompt": "hi", "responses": ["a" * 200] * 2}]
    async with running(load=lambda: pair(engine), cache_bytes=0) as (client, service):
        await until_ready(service)
        sizes = [len((await ask(client, BINARY, sets=long[:1], reference=True)).content)]
        sizes.append(len((await ask(client, BINARY, sets=long * 2, reference=True)).content))
        halves = len((await ask(client, BINARY, sets=long, reference=True, values="float16")).content)
    tokens = 2 * 201
    assert (sizes[1] - sizes[0]) / tokens <= 620.2  # with an offset for each response
    assert (sizes[0] - halves) == tokens * 200


async def until_ready(service: Any) -> None:
    import anyio

    while service.status == "starting":
        await anyio.sleep(0.001)
    assert service.status == "ready", service.failure


async def test_two_models_answer_at_the_same_ids(running: Running, engine: Any) -> None:
    async with running(load=lambda: pair(engine)) as (client, service):
        await until_ready(service)
        found, metadata = await tensors(client, top=3, reference=True)
        alone, _ = await tensors(client, top=3)
        again, _ = await tensors(client, top=2, reference=True)
        as_json = (await ask(client, top=3, reference=True)).json()
    assert metadata["reference_model"] == "before"
    assert as_json["reference"]["model"] == "before"
    assert "reference_logprobs" not in alone
    for ours, theirs in (("token_logprobs", "reference_token_logprobs"), ("top_logprobs", "reference_logprobs")):
        assert found[ours] == pytest.approx(found[theirs] + 0.25, abs=1e-5)
        assert found[ours].tolist() == alone[ours].tolist()
    assert again["reference_logprobs"].tolist() == found["reference_logprobs"][:, :2].tolist()
    first = as_json["sets"][0]["responses"][0]
    assert first["reference_rest"] == found["reference_rest"][:4].tolist()


async def test_the_sum_of_the_tokens_is_the_likelihood(client: httpx.AsyncClient) -> None:
    likelihood = (await client.post("/v1/likelihood", json={"sets": SETS})).json()
    found, _ = await tensors(client, top=3)
    sums = np.add.reduceat(found["token_logprobs"].astype(np.float64), found["offsets"][:-1])
    expected = [response["log_likelihood"] for each in likelihood["sets"] for response in each["responses"]]
    assert sums.tolist() == pytest.approx(expected, abs=1e-6)


async def test_given_ids_are_answered_in_both_forms(client: httpx.AsyncClient) -> None:
    top, _ = await tensors(client, top=3)
    named = np.random.default_rng(0).permutation(262)[:4].astype(np.uint32)[None].repeat(12, 0)
    named[:, 0] = top["top_ids"][:, 1]
    rows = named.tolist()
    nested = [[rows[:4], rows[4:6]], [rows[6:]]]
    as_json, _ = await tensors(client, at=nested)
    request = {"request": json.dumps({"sets": SETS})}
    reply = await client.post(
        "/v1/token_logprobs", content=save({"at": named}, request), headers=BINARY | {"Content-Type": SAFETENSORS}
    )
    found = load(reply.content)
    for name, values in as_json.items():
        assert found[name].tolist() == values.tolist()
    assert found["top_ids"].tolist() == rows
    assert found["top_logprobs"][:, 0].tolist() == top["top_logprobs"][:, 1].tolist()


async def test_a_smaller_k_is_answered_from_a_larger_one(client: httpx.AsyncClient, engine: Any) -> None:
    wide, _ = await tensors(client, top=9)
    calls = len(engine.calls)
    narrow, _ = await tensors(client, top=4)
    assert len(engine.calls) == calls
    assert narrow["top_logprobs"].tolist() == wide["top_logprobs"][:, :4].tolist()
    kept = np.exp(wide["top_logprobs"][:, 4:].astype(np.float64)).sum(1) + np.exp(wide["rest"].astype(np.float64))
    assert narrow["rest"] == pytest.approx(np.minimum(np.log(kept), 0), abs=1e-5)
    wider, _ = await tensors(client, top=12)
    assert len(engine.calls) == calls + 1
    assert wider["top_ids"][:, :9].tolist() == wide["top_ids"].tolist()


async def test_ids_past_the_students_vocabulary_are_never_named(client: httpx.AsyncClient) -> None:
    found, _ = await tensors(client, top=5, vocabulary=100)
    assert found["top_ids"].max() < 100


async def test_many_ids_cost_more_of_the_queue(running: Running) -> None:
    sets = [{"prompt": "hi", "responses": ["a" * 100]}]
    async with running(max_queued_tokens=300) as (client, _):
        assert (await ask(client, BINARY, sets=sets, top=3)).status_code == 200
        refused = await ask(client, BINARY, sets=sets, top=256)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "too_long"


async def test_a_reply_too_large_for_json_is_refused_before_the_engine(
    client: httpx.AsyncClient, engine: Any
) -> None:
    sets = [{"prompt": "hi", "responses": ["a" * 130]}]
    calls = len(engine.calls)
    reply = await ask(client, sets=sets, top=200)
    assert reply.status_code == 422
    assert SAFETENSORS in reply.json()["error"]["message"]
    assert len(engine.calls) == calls
    just_below = await ask(client, sets=sets, top=180)
    assert just_below.status_code == 200
    assert len(just_below.content) < 1_000_000


@pytest.mark.parametrize(
    ("fields", "code", "where"),
    [
        ({"top": 257}, "invalid_request", "top"),
        ({"top": 0}, "invalid_request", "top"),
        ({"top": 50, "vocabulary": 50}, "invalid_request", "top"),
        ({"reference": True}, "unsupported", "reference"),
        ({"at": [[[[1]], [[1]]], [[[1]]]]}, "invalid_request", "at"),
        ({"at": [[[[1]] * 4, [[1]] * 2], [[[1]] * 5 + [[262]]]]}, "invalid_request", "at"),
        ({"at": [[[[1, 1]] * 4, [[1, 2]] * 2], [[[1, 2]] * 6]]}, "invalid_request", "at"),
        ({"at": [[[[1, 3]] * 4, [[1]] * 2], [[[1, 2]] * 6]]}, "invalid_request", "at"),
        ({"at": [[[[-1]]]]}, "invalid_request", "at[0][0][0][0]"),
        ({"values": "bfloat16"}, "invalid_request", "values"),
    ],
)
async def test_a_wrong_request_is_one_clear_line(
    client: httpx.AsyncClient, fields: dict[str, Any], code: str, where: str
) -> None:
    error = (await ask(client, **fields)).json()["error"]
    assert (error["code"], error["where"]) == (code, where)
    assert "\n" not in error["message"]


@pytest.mark.parametrize("body", [b"", b"x" * 40, b"\xff" * 9, b"\x02\0\0\0\0\0\0\0{}"])
async def test_a_body_that_is_no_safetensors_file_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    reply = await client.post("/v1/token_logprobs", content=body, headers={"Content-Type": SAFETENSORS})
    assert reply.status_code == 422
    assert "safetensors" in reply.json()["error"]["message"]


async def test_a_cut_or_wrong_tensor_is_refused(client: httpx.AsyncClient) -> None:
    request = {"request": json.dumps({"sets": SETS})}
    whole = save({"at": np.zeros((12, 1), np.uint32)}, request)
    floats = save({"at": np.zeros((12, 1), np.float32)}, request)
    for body in (whole[:-4], floats, save({"at": np.zeros(12, np.uint32)}, request)):
        reply = await client.post("/v1/token_logprobs", content=body, headers={"Content-Type": SAFETENSORS})
        assert reply.status_code == 422, reply.text


async def test_a_tensor_that_would_be_ignored_is_refused(client: httpx.AsyncClient) -> None:
    at, nested = np.zeros((12, 1), np.uint32), [[[[1]] * 4, [[1]] * 2], [[[1]] * 6]]
    for tensors, fields, said in (
        ({"at": at, "secret": at}, {}, "another name than at"),
        ({"ids": at}, {}, "another name than at"),
        ({"at": at}, {"at": nested}, "given twice"),
    ):
        body = save(tensors, {"request": json.dumps({"sets": SETS} | fields)})
        reply = await client.post("/v1/token_logprobs", content=body, headers={"Content-Type": SAFETENSORS})
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_request")
        assert said in reply.json()["error"]["message"]
        assert "secret" not in reply.text
    none = save({}, {"request": json.dumps({"sets": SETS, "at": nested})})
    assert (
        await client.post("/v1/token_logprobs", content=none, headers={"Content-Type": SAFETENSORS})
    ).status_code == 200


async def test_an_engine_that_cannot_score_given_ids_says_so(
    client: httpx.AsyncClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "scores_given_ids", False)
    error = (await ask(client, at=[[[[1]] * 4, [[1]] * 2], [[[1]] * 6]])).json()["error"]
    assert error["code"] == "unsupported"


async def test_a_vocabulary_that_the_engine_cannot_cut_off_is_named(
    client: httpx.AsyncClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "most_ids", 20)  # 5 of them below 247, whichever 15 are past it
    assert (await ask(client, top=5, vocabulary=247)).status_code == 200
    refused = await ask(client, top=5, vocabulary=246)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["where"]) == (422, "unsupported", "vocabulary")
    assert "give 247 or more" in error["message"]
    assert (await ask(client, top=5)).status_code == 200


async def test_a_number_that_is_not_finite_is_never_sent(client: httpx.AsyncClient, engine: Any) -> None:
    engine.value = float("nan")
    error = (await ask(client)).json()["error"]
    assert error["code"] == "engine_failed"
