"""``orders: adaptive``: two opposite rotations first, the others only where these disagree, in one request."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pad_teacher.service import Service
from support.app import Running, bearer
from support.fakes import FakeEngine

pytestmark = pytest.mark.anyio

SETS = [{"prompt": f"hi {k}", "responses": ["yes", "no", "maybe", f"{k}"]} for k in range(4)]
HOW = {"orders": "adaptive"}


async def ask(client: httpx.AsyncClient, route: str = "selection", sets: Any = SETS, **how: Any) -> Any:
    headers = how.pop("headers", None)
    reply = await client.post(f"/v1/{route}", json={"sets": sets, **how}, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def chosen(item: dict[str, Any]) -> list[float]:
    return [response["selection_probability"] for response in item["responses"]]


def cost(service: Service) -> int:
    return service.running.batcher.queue.tokens


@pytest.mark.parametrize("route", ["selection", "score"])
async def test_orders_that_agree_are_enough(client: httpx.AsyncClient, engine: FakeEngine, route: str) -> None:
    engine.value = -1.0
    adaptive, cyclic = await ask(client, route, **HOW), await ask(client, route, orders="cyclic")
    assert [(item["orders_asked"], item["order_disagreement"]) for item in adaptive["sets"]] == [(2, 0)] * 4
    assert adaptive["usage"]["question_tokens"] == cyclic["usage"]["question_tokens"] / 2
    assert adaptive["usage"]["response_tokens"] == cyclic["usage"]["response_tokens"]


@pytest.mark.parametrize("route", ["selection", "score"])
@pytest.mark.parametrize("cache_bytes", [0, 10**6])
async def test_orders_that_disagree_are_all_asked(running: Running, route: str, cache_bytes: int) -> None:
    async with running(cache_bytes=cache_bytes) as (client, service):
        adaptive = await ask(client, route, **HOW, tolerance=0)
        cyclic = await ask(client, route, orders="cyclic")
        assert adaptive["usage"] == cyclic["usage"]
        for one, other in zip(adaptive["sets"], cyclic["sets"], strict=True):
            assert one["orders_asked"] == 4
            assert chosen(one) == pytest.approx(chosen(other), abs=1e-12)
            assert one["order_disagreement"] == pytest.approx(other["order_disagreement"])
            assert one["label_mass"] == pytest.approx(other["label_mass"])
        assert cost(service) == 0


async def test_two_orders_are_opposite_rotations(client: httpx.AsyncClient) -> None:
    (one,) = (await ask(client, sets=SETS[:1], **HOW, tolerance=1))["sets"]
    texts = SETS[0]["responses"]
    alone = [
        await ask(client, sets=[{"prompt": "hi 0", "responses": r}], orders="single")
        for r in (texts, [*texts[2:], *texts[:2]])
    ]
    as_given, turned = (chosen(reply["sets"][0]) for reply in alone)
    assert chosen(one) == pytest.approx(
        [(a + b) / 2 for a, b in zip(as_given, [*turned[2:], *turned[:2]], strict=True)]
    )


async def test_only_sets_past_the_tolerance_are_asked_more(client: httpx.AsyncClient) -> None:
    two = await ask(client, **HOW, tolerance=1)
    apart = [item["order_disagreement"] for item in two["sets"]]
    middle = sorted(apart)[1]  # a set that is just as far as the tolerance is settled
    mixed, cyclic = await ask(client, **HOW, tolerance=middle), await ask(client, orders="cyclic")
    for item, first, whole, distance in zip(mixed["sets"], two["sets"], cyclic["sets"], apart, strict=True):
        assert item["orders_asked"] == (2 if distance <= middle else 4)
        assert chosen(item) == pytest.approx(chosen(first if distance <= middle else whole))
    assert two["usage"]["question_tokens"] < mixed["usage"]["question_tokens"] < cyclic["usage"]["question_tokens"]


@pytest.mark.parametrize("tolerance", [0.0, 1.0])
async def test_a_key_is_charged_for_what_was_asked(running: Running, tmp_path: Path, tolerance: float) -> None:
    key = bearer(tmp_path, "lab")
    async with running(keys=tmp_path / "keys", cache_bytes=0) as (client, service):
        await ask(client, **HOW, tolerance=tolerance, headers=key)
        adaptive = (await client.get("/v1/usage", headers=key)).json()["key"]["tokens_today"]
        await ask(client, orders="cyclic", headers=key)
        cyclic = (await client.get("/v1/usage", headers=key)).json()["key"]["tokens_today"] - adaptive
        assert cost(service) == 0
        # Beginnings that orders share cost once within a query, and the others are a query of their own.
        assert adaptive < 0.7 * cyclic if tolerance else cyclic <= adaptive < 1.5 * cyclic


async def test_a_request_is_admitted_for_the_most_it_may_ask(running: Running, tmp_path: Path) -> None:
    async with running(cache_bytes=0) as (client, service):
        most = 0
        free = service.running.batcher.queue.release

        def released(request: Any) -> None:
            nonlocal most
            most = max(most, request.reserve)
            free(request)

        service.running.batcher.queue.release = released  # type: ignore[method-assign]
        await ask(client, **HOW, tolerance=1)
    key = bearer(tmp_path, "lab", tokens_per_day=most)
    async with running(keys=tmp_path / "keys", cache_bytes=0) as (client, _):
        refused = await client.post("/v1/selection", json={"sets": SETS, **HOW, "tolerance": 1}, headers=key)
        assert refused.status_code == 422, "its first orders alone would be within the limit"
        assert refused.json()["error"]["code"] == "too_long"
        assert (await client.get("/v1/usage", headers=key)).json()["key"]["tokens_today"] == 0


async def test_orders_asked_before_cost_nothing(running: Running, engine: FakeEngine, tmp_path: Path) -> None:
    key = bearer(tmp_path, "lab")
    async with running(keys=tmp_path / "keys") as (client, _):
        first = await ask(client, **HOW, tolerance=0, headers=key)
        used = (await client.get("/v1/usage", headers=key)).json()["key"]["tokens_today"]
        calls = len(engine.calls)
        assert (await ask(client, **HOW, tolerance=0, headers=key))["sets"] == first["sets"]
        await ask(client, orders="cyclic", headers=key)
        assert (len(engine.calls), (await client.get("/v1/usage", headers=key)).json()["key"]["tokens_today"]) == (
            calls,
            used,
        )


async def test_a_failure_in_the_middle_leaves_no_room_taken(running: Running, engine: FakeEngine) -> None:
    async with running(cache_bytes=0) as (client, service):
        score, queue = engine.score, service.running.batcher.queue

        def once(queries: Any) -> Any:
            engine.failure = RuntimeError("away") if engine.calls else None
            return score(queries)

        engine.score = once  # type: ignore[method-assign]
        reply = await client.post("/v1/selection", json={"sets": SETS, **HOW, "tolerance": 0})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_failed")
        assert queue.tokens == 0


async def test_a_deadline_in_the_middle_leaves_no_room_taken(running: Running, engine: FakeEngine) -> None:
    async with running(cache_bytes=0) as (client, service):
        score = engine.score

        def slow_then(queries: Any) -> Any:
            answers = score(queries)
            engine.gate.clear()
            return answers

        engine.score = slow_then  # type: ignore[method-assign]
        headers = {"X-Deadline-Ms": "300"}
        reply = await client.post("/v1/selection", json={"sets": SETS, **HOW, "tolerance": 0}, headers=headers)
        engine.gate.set()
        assert reply.json()["error"]["code"] == "deadline_exceeded"
        with anyio.fail_after(5):
            while cost(service):
                await anyio.sleep(0.01)


@pytest.mark.parametrize("how", [{"form": "pairwise"}, {}])
async def test_of_two_texts_both_orders_are_asked(client: httpx.AsyncClient, how: dict[str, str]) -> None:
    two = [{"prompt": "hi", "responses": ["yes", "no", "yes"]}]
    adaptive, cyclic = await ask(client, sets=two, **HOW, **how), await ask(client, sets=two, orders="cyclic", **how)
    assert adaptive == cyclic


@pytest.mark.parametrize("tolerance", [-0.1, 1.1, "0.1"])
async def test_a_tolerance_is_a_total_variation(client: httpx.AsyncClient, tolerance: Any) -> None:
    reply = await client.post("/v1/selection", json={"sets": SETS, **HOW, "tolerance": tolerance})
    assert (reply.status_code, reply.json()["error"]["where"]) == (422, "tolerance")
