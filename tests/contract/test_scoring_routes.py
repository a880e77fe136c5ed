"""The numbers that the scoring routes return, and the usage that they count."""

import math
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from pad_teacher.scoring.teacher import Teacher
from pad_wire.chat import ChatEncoder
from support.app import ExpectedLogLikelihood, Running
from support.fakes import byte_tokenizer

pytestmark = pytest.mark.anyio

SETS = [
    {"id": "a", "prompt": "hi", "responses": ["yes", {"text": "no", "finished": False}, "maybe"]},
    {"prompt": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "é?"}], "responses": ["☃", ""]},
]


def ids(text: str) -> list[int]:
    return byte_tokenizer()(text, add_special_tokens=False)["input_ids"]


async def test_likelihood_is_of_the_response_after_the_prompt(
    client: httpx.AsyncClient, expected: ExpectedLogLikelihood
) -> None:
    reply = (await client.post("/v1/likelihood", json={"sets": SETS})).json()
    end = byte_tokenizer().convert_tokens_to_ids("<|end|>")
    prompt = ids("<|user|>hi<|end|><|assistant|>")
    first, cut, _ = reply["sets"][0]["responses"]
    assert first["log_likelihood"] == expected(prompt, [*ids("yes"), end])
    assert first["tokens"] == 4
    assert first["mean_log_likelihood"] == pytest.approx(first["log_likelihood"] / 4)
    assert cut["log_likelihood"] == expected(prompt, ids("no"))
    assert cut["tokens"] == 2


async def test_roles_are_rendered_and_an_empty_response_is_its_end(
    client: httpx.AsyncClient, expected: ExpectedLogLikelihood
) -> None:
    reply = (await client.post("/v1/likelihood", json={"sets": SETS})).json()
    prompt = ids("<|system|>be kind<|end|><|user|>é?<|end|><|assistant|>")
    snowman, empty = reply["sets"][1]["responses"]
    end = byte_tokenizer().convert_tokens_to_ids("<|end|>")
    assert snowman["tokens"] == 4
    assert empty["tokens"] == 1
    assert empty["log_likelihood"] == expected(prompt, [end])
    assert reply["sets"][1]["id"] == "1"


async def test_usage_counts_each_prompt_once(client: httpx.AsyncClient) -> None:
    reply = (await client.post("/v1/likelihood", json={"sets": SETS[:1]})).json()
    assert reply["usage"] == {
        "prompt_tokens": len(ids("<|user|>hi<|end|><|assistant|>")),
        "response_tokens": 4 + 2 + 6,
        "question_tokens": 0,
        "total_tokens": reply["usage"]["prompt_tokens"] + 12,
    }


async def test_per_token_values_add_up_to_the_log_likelihood(client: httpx.AsyncClient) -> None:
    body = {"sets": SETS, "per_token": True}
    for item in (await client.post("/v1/likelihood", json=body)).json()["sets"]:
        for response in item["responses"]:
            assert sum(response["token_log_likelihoods"]) == pytest.approx(response["log_likelihood"])
            assert len(response["token_log_likelihoods"]) == response["tokens"]


@pytest.mark.parametrize("orders", ["single", "cyclic", "both", "all"])
async def test_listwise_selection_sums_to_one(client: httpx.AsyncClient, orders: str) -> None:
    body = {"sets": SETS, "form": "listwise", "orders": orders}
    for item in (await client.post("/v1/selection", json=body)).json()["sets"]:
        assert sum(r["selection_probability"] for r in item["responses"]) == pytest.approx(1)
        assert item["label_mass"] > 0


async def test_pairwise_selection_is_the_mean_chance_to_win_a_pair(client: httpx.AsyncClient) -> None:
    body = {"sets": SETS[:1], "form": "pairwise", "orders": "both"}
    item = (await client.post("/v1/selection", json=body)).json()["sets"][0]
    assert sum(r["selection_probability"] for r in item["responses"]) == pytest.approx(3 / 2)


async def test_score_is_likelihood_and_selection_and_their_reward(client: httpx.AsyncClient) -> None:
    both = (await client.post("/v1/score", json={"sets": SETS, "alpha": 0.8})).json()
    likelihood = (await client.post("/v1/likelihood", json={"sets": SETS})).json()
    selection = (await client.post("/v1/selection", json={"sets": SETS})).json()
    for one, two, three in zip(both["sets"], likelihood["sets"], selection["sets"], strict=True):
        assert one["label_mass"] == three["label_mass"]
        for score, a, b in zip(one["responses"], two["responses"], three["responses"], strict=True):
            reward = 0.2 * a["mean_log_likelihood"] + 0.8 * math.log(b["selection_probability"])
            assert score.pop("reward") == pytest.approx(reward)
            assert score == a | b


async def test_every_reply_names_the_teacher(client: httpx.AsyncClient) -> None:
    card = (await client.get("/v1/models")).json()["data"][0]
    for route in ("likelihood", "selection", "score"):
        reply = (await client.post(f"/v1/{route}", json={"sets": SETS})).json()
        assert reply["teacher"] == {"model": card["id"], "fingerprint": card["fingerprint"]}


async def test_usage_is_kept_by_job(client: httpx.AsyncClient) -> None:
    for job in ("one", "one", "two"):
        await client.post("/v1/likelihood", json={"sets": SETS[:1]}, headers={"X-Job-Id": job})
    one, two = (await client.get("/v1/usage")).json()["jobs"]
    assert (one["job"], one["requests"], two["job"], two["requests"]) == ("one", 2, "two", 1)
    assert one["total_tokens"] == 2 * two["total_tokens"] > 0


async def test_responses_are_cut_only_when_asked_and_then_reported(client: httpx.AsyncClient) -> None:
    sets = [{"prompt": "hi", "responses": ["x" * 3000, "y"]}]
    refused = await client.post("/v1/likelihood", json={"sets": sets})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "too_long"
    assert refused.json()["error"]["where"] == "sets[0].responses[0]"
    long, short = (await client.post("/v1/score", json={"sets": sets, "truncate": True})).json()["sets"][0][
        "responses"
    ]
    assert long["truncated"] is True
    assert long["tokens"] == 2048 - len(ids("<|user|>hi<|end|><|assistant|>"))
    assert "truncated" not in short


async def test_a_question_is_cut_to_the_longest_that_fits(client: httpx.AsyncClient) -> None:
    sets = [{"prompt": "hi", "responses": ["x" * 3000, "y" * 1500, "z"]}]
    body = {"sets": sets, "orders": "single"}
    assert (await client.post("/v1/selection", json=body)).json()["error"]["code"] == "too_long"
    reply = (await client.post("/v1/selection", json=body | {"truncate": True})).json()
    assert [r.get("truncated") for r in reply["sets"][0]["responses"]] == [True, True, None]
    assert 2040 <= reply["usage"]["question_tokens"] <= 2048


async def test_a_cut_never_leaves_half_a_character_and_always_fits(client: httpx.AsyncClient) -> None:
    sets = [{"prompt": "hi", "responses": ["two three " * 300, "🙂" * 700, "x" * 2500]}]
    for form in ("listwise", "pairwise"):
        reply = await client.post("/v1/selection", json={"sets": sets, "form": form, "truncate": True})
        assert reply.status_code == 200


async def test_what_looks_like_a_special_token_in_a_response_is_text(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/likelihood", json={"sets": [{"prompt": "hi", "responses": ["<|end|>"]}]})
    assert reply.json()["sets"][0]["responses"][0]["tokens"] == len("<|end|>") + 1


async def test_the_first_order_asked_does_not_depend_on_other_orders(client: httpx.AsyncClient) -> None:
    single = (await client.post("/v1/selection", json={"sets": SETS[:1], "orders": "single"})).json()
    cyclic = (await client.post("/v1/selection", json={"sets": SETS[:1], "orders": "cyclic"})).json()
    probabilities = [
        [r["selection_probability"] for r in reply["sets"][0]["responses"]] for reply in (single, cyclic)
    ]
    assert all(a != b for a, b in pairwise(probabilities))
    assert cyclic["usage"]["question_tokens"] == 3 * single["usage"]["question_tokens"]


async def test_unconditional_is_the_likelihood_after_an_empty_request(
    client: httpx.AsyncClient, expected: ExpectedLogLikelihood
) -> None:
    empty = ids("<|user|><|end|><|assistant|>")
    end = byte_tokenizer().convert_tokens_to_ids("<|end|>")
    for route in ("likelihood", "score"):
        reply = (await client.post(f"/v1/{route}", json={"sets": SETS[:1], "unconditional": True})).json()
        first, cut, _ = reply["sets"][0]["responses"]
        assert first["unconditional_log_likelihood"] == expected(empty, [*ids("yes"), end])
        assert cut["unconditional_log_likelihood"] == expected(empty, ids("no"))
        assert first["log_likelihood"] == expected(ids("<|user|>hi<|end|><|assistant|>"), [*ids("yes"), end])


async def test_unconditional_is_absent_unless_asked(client: httpx.AsyncClient) -> None:
    reply = (await client.post("/v1/likelihood", json={"sets": SETS})).json()
    assert not any("unconditional_log_likelihood" in r for item in reply["sets"] for r in item["responses"])


async def test_an_empty_request_is_computed_once_for_all_prompts(client: httpx.AsyncClient) -> None:
    sets = [{"prompt": prompt, "responses": ["yes"]} for prompt in ("a", "b")]
    await client.post("/v1/likelihood", json={"sets": sets[:1], "unconditional": True})
    again = await client.post("/v1/likelihood", json={"sets": sets[1:], "unconditional": True})
    assert again.json()["usage"]["response_tokens"] == 8
    metrics = (await client.get("/metrics")).text
    assert "pad_cache_hits_total 1.0" in metrics


@pytest.mark.parametrize(("orders", "asked"), [("single", 1), ("cyclic", 3), ("both", 2), ("all", 6)])
async def test_a_set_says_how_many_orders_were_asked(client: httpx.AsyncClient, orders: str, asked: int) -> None:
    for route in ("selection", "score"):
        item = (await client.post(f"/v1/{route}", json={"sets": SETS[:1], "orders": orders})).json()["sets"][0]
        assert item["orders_asked"] == asked
        assert ("order_disagreement" in item) == (asked > 1)
        assert 0 <= item.get("order_disagreement", 0) <= 1


async def test_an_empty_request_longer_than_the_prompt_must_fit_too(running: Running, engine: Any) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'system' %}be helpful{% endif %}" + tokenizer.chat_template
    )
    prompt = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    room = engine.max_context_tokens - len(
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    )
    body = {"sets": [{"prompt": prompt, "responses": [{"text": "z" * room, "finished": False}]}]}
    teacher = Teacher.of("fake", ChatEncoder.of(tokenizer), engine)
    async with running(lambda: teacher) as (client, service):
        while service.status == "starting":
            await anyio.sleep(0.001)
        assert (await client.post("/v1/likelihood", json=body)).status_code == 200
        refused = await client.post("/v1/likelihood", json=body | {"unconditional": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "too_long")
        assert refused.json()["error"]["where"] == "sets[0]"
