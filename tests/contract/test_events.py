"""``/v1/events``: what the console sees live, who sees it, and that it holds nothing up."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from pad_teacher.api import events
from pad_teacher.api.events import quantile
from support.app import ONE, Running, bearer, score

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def short_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SECONDS", 0.001)
    monkeypatch.setattr(events, "MOST_EVENTS", 2)


async def states(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    reply = await client.get("/v1/events", headers=headers)
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    return [json.loads(part.removeprefix("data: ")) for part in reply.text.split("\n\n") if part]


async def test_an_event_has_the_numbers_of_the_api(running: Running, tmp_path: Path) -> None:
    lab = bearer(tmp_path, "lab", tokens_per_minute=10_000)
    async with running(keys=tmp_path / "keys") as (client, service):
        used = (await score(client, lab)).json()["usage"]["total_tokens"]
        *_, last = await states(client, lab)
        usage = (await client.get("/v1/usage", headers=lab)).json()
        assert last["jobs"] == usage["jobs"]
        assert last["tokens_scored"] == used
        assert last["key"]["tokens_today"] == usage["key"]["tokens_today"]
        assert (last["status"], last["teacher"]) == ("ready", service.running.teacher.id.model_dump())
        assert last["waits"] == 1
        assert last["wait_p50_seconds"] == last["wait_p99_seconds"] >= 0


async def test_an_event_shows_jobs_of_the_asking_key_alone(running: Running, tmp_path: Path) -> None:
    ada, ben = bearer(tmp_path, "ada"), bearer(tmp_path, "ben")
    async with running(keys=tmp_path / "keys") as (client, _):
        await score(client, ada | {"X-Job-Id": "secret"})
        *_, seen = await states(client, ben)
        assert (seen["jobs"], seen["jobs_in_all"], seen["key"]["name"]) == ([], 0, "ben")
        assert "secret" not in json.dumps(seen)
        assert (await client.get("/v1/events")).status_code == 401


async def test_a_loading_service_is_watched_too(running: Running) -> None:
    goes_on = threading.Event()

    def load() -> object:
        goes_on.wait(10)
        raise RuntimeError

    async with running(load=load) as (client, _):
        *_, seen = await states(client)
        assert (seen["teacher"], seen["status"]) == (None, "starting")
        goes_on.set()


async def test_streams_that_open_together_are_few_too(running: Running) -> None:
    async with running(max_connections=16) as (client, _):
        replies = await asyncio.gather(*(client.get("/v1/events") for _ in range(6)))
        assert sorted(reply.status_code for reply in replies) == [200] * 4 + [429] * 2
        assert (await client.get("/v1/events")).status_code == 200, "a stream that ended gives its place back"


async def test_a_page_that_leaves_gives_its_place_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(max_connections=16) as (client, _), asyncio.timeout(10):
        monkeypatch.setattr(events, "MOST_EVENTS", 10**6)
        pages = [asyncio.create_task(client.get("/v1/events")) for _ in range(5)]
        done, pages = await asyncio.wait(pages, return_when=asyncio.FIRST_COMPLETED)
        assert [page.result().status_code for page in done] == [429]
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)
        monkeypatch.setattr(events, "MOST_EVENTS", 1)
        replies = await asyncio.gather(*(client.get("/v1/events") for _ in range(4)))
        assert [reply.status_code for reply in replies] == [200] * 4


@pytest.mark.parametrize(("status", "code"), [("draining", "not_ready"), ("failed", "engine_failed")])
async def test_streams_end_when_the_service_drains_or_fails(
    running: Running, monkeypatch: pytest.MonkeyPatch, status: Any, code: str
) -> None:
    monkeypatch.setattr(events, "MOST_EVENTS", 10**6)
    async with running() as (client, service), asyncio.timeout(10):
        stream = asyncio.create_task(states(client))
        await asyncio.sleep(0.05)
        assert not stream.done()
        service.status = status
        assert (await stream)[-1]["status"] == status
        refused = await client.get("/v1/events")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, code)


def test_quantiles_are_values_that_occurred() -> None:
    assert quantile([], 0.5) is None
    values = [float(k) for k in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99)) == (51, 100)


@pytest.mark.parametrize("route", ["selection", "score"])
@pytest.mark.parametrize(
    ("how", "number"),
    [({"orders": "all"}, 6), ({}, 3), ({"orders": "adaptive", "tolerance": 1}, 2), ({"orders": "single"}, 1)],
)
async def test_answers_by_order_average_to_the_choice(
    client: httpx.AsyncClient, route: str, how: dict[str, Any], number: int
) -> None:
    item = {"prompt": "hi", "responses": ["yes", "no", "yes", "maybe"]}
    (found,) = (await client.post(f"/v1/{route}", json={"sets": [item], **how, "per_order": True})).json()["sets"]
    answers = found["per_order"]
    assert len(answers) == found["orders_asked"] == number
    assert all(sorted(each["order"]) == [[0, 2], [1], [3]] for each in answers), "copies share a letter"
    assert answers[0]["order"] == [[0, 2], [1], [3]]
    assert len({str(each["order"]) for each in answers}) == number
    for k, response in enumerate(found["responses"]):
        (at,) = {tuple(place) for each in answers for place in each["order"] if k in place}
        shown = [each["probabilities"][each["order"].index(list(at))] for each in answers]
        assert response["selection_probability"] == pytest.approx(sum(shown) / number, abs=1e-15)
    assert found["label_mass"] == pytest.approx(sum(each["label_mass"] for each in answers) / number, abs=1e-15)
    assert all(sum(each["probabilities"]) == pytest.approx(1) for each in answers)
    plain = (await client.post(f"/v1/{route}", json={"sets": [item]})).json()["sets"][0]
    assert "per_order" not in plain


async def test_copies_have_letters_of_their_own_if_asked_so(client: httpx.AsyncClient) -> None:
    item = {"prompt": "hi", "responses": ["yes", "no", "yes"]}
    body = {"sets": [item], "distinct": False, "orders": "single", "per_order": True}
    (answer,) = (await client.post("/v1/selection", json=body)).json()["sets"][0]["per_order"]
    assert answer["order"] == [[0], [1], [2]]


async def test_a_set_of_one_text_has_no_answer_by_order(client: httpx.AsyncClient) -> None:
    for route in ("selection", "score"):
        body = {"sets": [{"prompt": "hi", "responses": ["yes", "yes"]}], "per_order": True}
        (found,) = (await client.post(f"/v1/{route}", json=body)).json()["sets"]
        assert (found["per_order"], found["orders_asked"]) == ([], 0)


async def test_pairs_are_answered_by_order_too(client: httpx.AsyncClient) -> None:
    body = ONE["sets"][0] | {"responses": ["a", "b", "a", "c"]}
    reply = await client.post("/v1/selection", json={"sets": [body], "form": "pairwise", "per_order": True})
    answers = reply.json()["sets"][0]["per_order"]
    a, b, c = [0, 2], [1], [3]
    assert [each["order"] for each in answers] == [[a, b], [b, a], [a, c], [c, a], [b, c], [c, b]]


async def test_texts_of_tokens_join_to_the_response(client: httpx.AsyncClient) -> None:
    for route in ("likelihood", "score"):
        body = {**ONE, "per_token": True, "token_texts": True}
        (found,) = (await client.post(f"/v1/{route}", json=body)).json()["sets"]
        for text, response in zip(ONE["sets"][0]["responses"], found["responses"], strict=True):
            assert "".join(response["token_texts"]) == f"{text}<|end|>"
            assert len(response["token_texts"]) == len(response["token_log_likelihoods"]) == response["tokens"]
