"""Copies of one text in a set: they are one option of the question, and a set of one text is not asked."""

import math
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

TWICE = {"prompt": "hi", "responses": ["yes", "no", {"text": "yes", "finished": False}, "maybe"]}
ONCE = {"prompt": "hi", "responses": ["yes", "no", "maybe"]}
ONE_TEXT = {"prompt": "hi", "responses": ["yes"] * 4}


async def asked(client: httpx.AsyncClient, item: dict[str, Any], route: str = "selection", **how: Any) -> Any:
    reply = await client.post(f"/v1/{route}", json={"sets": [item], **how})
    assert reply.status_code == 200, reply.text
    return reply.json()


def probabilities(reply: Any) -> list[float]:
    return [response["selection_probability"] for response in reply["sets"][0]["responses"]]


@pytest.mark.parametrize("form", ["listwise", "pairwise"])
async def test_each_copy_has_the_whole_probability_of_its_text(client: httpx.AsyncClient, form: str) -> None:
    twice, once = await asked(client, TWICE, form=form), await asked(client, ONCE, form=form)
    yes, no, maybe = probabilities(once)
    assert probabilities(twice) == [yes, no, yes, maybe]
    for name in ("label_mass", "orders_asked", "order_disagreement"):
        assert twice["sets"][0][name] == once["sets"][0][name]
    assert twice["usage"]["question_tokens"] == once["usage"]["question_tokens"]


@pytest.mark.parametrize("form", ["listwise", "pairwise"])
async def test_a_set_of_one_text_is_not_asked(client: httpx.AsyncClient, form: str) -> None:
    reply = await asked(client, ONE_TEXT, form=form)
    assert reply["sets"] == [{"id": "0", "responses": [{"selection_probability": 1.0}] * 4, "orders_asked": 0}]
    assert reply["usage"]["question_tokens"] == 0


async def test_the_reward_of_one_text_is_its_likelihood_alone(client: httpx.AsyncClient) -> None:
    reply = await asked(client, ONE_TEXT, "score", alpha=0.8)
    first = reply["sets"][0]["responses"][0]
    assert first["reward"] == pytest.approx(0.2 * first["mean_log_likelihood"] + 0.8 * math.log(1))
    assert "label_mass" not in reply["sets"][0]


async def test_sets_of_one_text_are_counted(client: httpx.AsyncClient) -> None:
    body = {"sets": [ONE_TEXT, TWICE, ONE_TEXT]}
    for route in ("selection", "score"):
        reply = (await client.post(f"/v1/{route}", json=body, headers={"X-Job-Id": "one"})).json()
        assert reply["usage"]["sets_of_one_text"] == 2
    assert "sets_of_one_text" not in (await asked(client, ONCE))["usage"]
    jobs = {job["job"]: job for job in (await client.get("/v1/usage")).json()["jobs"]}
    assert jobs["one"]["sets_of_one_text"] == 4
    metrics = (await client.get("/metrics")).text
    assert "pad_sets_of_one_text_total 4.0" in metrics
    assert "pad_label_mass_count 3.0" in metrics, "a set that is not asked has no label mass"


async def test_copies_are_shown_one_by_one_if_asked_so(client: httpx.AsyncClient) -> None:
    apart = await asked(client, ONE_TEXT, distinct=False)
    assert sum(probabilities(apart)) == pytest.approx(1)
    assert (apart["sets"][0]["orders_asked"], apart["usage"].get("sets_of_one_text")) == (4, None)


@pytest.mark.parametrize(
    ("responses", "how"), [(["x"] * 27, {}), (["x"] * 6, {"orders": "all"}), (["x"] * 5 + ["y"], {"orders": "all"})]
)
async def test_copies_do_not_decide_whether_a_set_is_taken(
    client: httpx.AsyncClient, responses: list[str], how: dict[str, str]
) -> None:
    reply = await client.post("/v1/selection", json={"sets": [{"prompt": "hi", "responses": responses}], **how})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "too_many_options")
