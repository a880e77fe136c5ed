"""A teacher behind an API, as a client sees it: its choice, how sure it is, and a refusal of all else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pad_teacher.admission.queue import AdmissionQueue
from pad_teacher.admission.request import PendingRequest
from pad_teacher.scoring.load import load
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.settings import ServeSettings
from support.app import Running
from support.paths import ROOT
from support.stub_upstream import MODEL, Answer, Body, StubUpstream, error, passing, said, stub_upstream, voter
from support.tiny_upstream import chat_api

pytestmark = pytest.mark.anyio

SETS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "count from two to five", "responses": ["two three four five", "two five", "six", "two"]},
    {
        "id": "b",
        "prompt": "put these numbers in order: six ten four",
        "responses": ["four six ten", "ten", "six four"],
    },
]
TINY = ROOT / "examples" / "tinyworld" / "teacher"
CHOSEN = said("A", [("A", 0.7), ("B", 0.2), ("The", 0.05)])


@pytest.fixture(scope="module")
def tiny_teacher() -> Teacher:
    teacher = load(ServeSettings(model=str(TINY), device="cpu"))
    assert isinstance(teacher, Teacher)
    return teacher


@asynccontextmanager
async def served(
    running: Running, answer: Callable[[Body], Answer], **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, StubUpstream]]:
    """The application in front of a stub that answers so."""
    with stub_upstream(answer) as stub:
        chosen = {"engine": "openai", "upstream": stub.url, "upstream_model": MODEL, **settings}
        whole = ServeSettings(**chosen)
        async with running(load=lambda: load(whole), model=MODEL, **chosen) as (client, service):
            while service.status == "starting":
                await anyio.sleep(0.001)
            assert service.status == "ready", service.failure
            yield client, stub


async def post(client: httpx.AsyncClient, route: str, **body: Any) -> Any:
    reply = await client.post(f"/v1/{route}", json={"sets": SETS, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def refusal(client: httpx.AsyncClient, route: str, **body: Any) -> tuple[int, Any]:
    reply = await client.post(f"/v1/{route}", json={"sets": SETS, **body})
    return reply.status_code, reply.json()["error"]


@pytest.mark.parametrize("form", ["listwise", "pairwise"])
@pytest.mark.parametrize("orders", ["cyclic", "both", "adaptive"])
async def test_label_probabilities_are_the_embedded_engines(
    running: Running, tiny_teacher: Teacher, form: str, orders: str
) -> None:
    async with running(load=lambda: tiny_teacher) as (client, service):
        while service.status == "starting":
            await anyio.sleep(0.001)
        embedded = await post(client, "selection", form=form, orders=orders, per_order=True)
    async with served(running, chat_api(tiny_teacher)) as (client, _):
        ours = await post(client, "selection", form=form, orders=orders, per_order=True)
    for mine, theirs in zip(ours["sets"], embedded["sets"], strict=True):
        for name in ("label_mass", "order_disagreement"):
            assert mine[name] == pytest.approx(theirs[name], abs=1e-6)
        assert mine["orders_asked"] == theirs["orders_asked"]
        for one, other in zip(mine["responses"], theirs["responses"], strict=True):
            assert one["selection_probability"] == pytest.approx(other["selection_probability"], abs=1e-6)
            low, high = one["selection_interval"]
            assert low <= other["selection_probability"] <= high
        for one, other in zip(mine["per_order"], theirs["per_order"], strict=True):
            assert one["order"] == other["order"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


async def test_the_model_says_that_it_only_chooses(running: Running) -> None:
    async with served(running, passing(lambda _: CHOSEN, logprobs=True)) as (client, _):
        (card,) = (await client.get("/v1/models")).json()["data"]
    assert card["capabilities"] == ["selection"]
    assert card["estimator"] == "label_probabilities"
    assert card["engine"] == "openai"
    assert card["limits"]["max_options"] == 20
    assert not {"dtype", "end_of_turn", "tokenizer"} & card.keys(), "what nobody can know is not said"


async def test_an_embedded_model_says_what_it_can_tell(client: httpx.AsyncClient) -> None:
    (card,) = (await client.get("/v1/models")).json()["data"]
    assert card["capabilities"] == ["likelihood", "selection", "token_logprobs", "completions"]
    assert "estimator" not in card


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("likelihood", {}),
        ("token_logprobs", {"top": 5}),
        ("completions", {"prompt": "A"}),
        ("score", {}),
        ("score", {"alpha": 0.8}),
        ("score", {"alpha": 1, "per_token": True}),
        ("score", {"alpha": 1, "unconditional": True}),
        ("selection", {"truncate": True}),
    ],
)
async def test_all_else_is_unsupported(running: Running, route: str, body: dict[str, Any]) -> None:
    async with served(running, passing(lambda _: CHOSEN, logprobs=True)) as (client, stub):
        before = len(stub.asked)
        status, error = await refusal(client, route, **body)
        assert (status, error["code"], error["retryable"]) == (422, "unsupported", False)
        assert len(stub.asked) == before, "a refused request costs nothing"


@pytest.mark.parametrize("body", [{"form": "pairwise"}, {"per_order": True}])
async def test_votes_are_not_asked_in_pairs(running: Running, body: dict[str, Any]) -> None:
    async with served(running, passing(lambda _: said("A"), logprobs=False)) as (client, _):
        status, error = await refusal(client, "selection", **body)
    assert (status, error["code"], error["where"]) == (422, "unsupported", next(iter(body)))


async def test_a_score_at_alpha_1_is_the_choice_alone(running: Running, tiny_teacher: Teacher) -> None:
    async with served(running, chat_api(tiny_teacher)) as (client, _):
        chosen = await post(client, "selection")
        scored = await post(client, "score", alpha=1)
    assert scored["teacher"] == chosen["teacher"]
    for mine, theirs in zip(scored["sets"], chosen["sets"], strict=True):
        for one, other in zip(mine["responses"], theirs["responses"], strict=True):
            assert one.pop("reward") < 0
            assert one == other


def of_texts(chances: dict[str, float], invalid: float = 0.0) -> Callable[[Body], Answer]:
    """Votes for the quoted options of a question, by their texts."""
    return voter({f'"{text}"': chance for text, chance in chances.items()}, invalid)


async def test_votes_are_spread_evenly_over_the_orders(running: Running) -> None:
    voters = of_texts({"two three four five": 0.6, "two five": 0.2, "six": 0.1, "two": 0.1})
    async with served(running, passing(voters, logprobs=False), upstream_vote_width=0) as (client, stub):
        before = len(stub.asked)
        (item,) = (await post(client, "score", alpha=1, sets=SETS[:1]))["sets"]
    asked = stub.questions[before:]
    assert sorted(asked.count(question) for question in set(asked)) == [4, 4, 4, 4]
    assert (item["votes"], item["invalid_votes"], item["orders_asked"], item["label_mass"]) == (16, 0, 16, 1.0)
    assert sum(each["selection_probability"] for each in item["responses"]) == pytest.approx(1)
    for each in item["responses"]:
        low, high = each["selection_interval"]
        assert low < each["selection_probability"] < high
        assert each["reward"] == each["log_selection_probability"] < 0


async def test_votes_end_once_the_intervals_are_narrow(running: Running) -> None:
    sure = of_texts({"two three four five": 1.0, "two five": 0.0, "six": 0.0, "two": 0.0})
    async with served(running, passing(sure, logprobs=False), upstream_votes=64) as (client, stub):
        before = len(stub.asked)
        (item,) = (await post(client, "selection", sets=SETS[:1]))["sets"]
    assert item["votes"] == len(stub.asked) - before == 12
    assert max(high - low for low, high in (each["selection_interval"] for each in item["responses"])) <= 0.3


async def test_votes_hold_their_tokens_if_the_first_are_known(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rounds are answers that an earlier request got; all further ones are admitted together."""
    unsure = of_texts({"two three four five": 0.3, "two five": 0.3, "six": 0.2, "two": 0.2})
    admit, reserved = AdmissionQueue.admit, list[int]()

    def counted(queue: AdmissionQueue, request: PendingRequest, deadline: float | None) -> asyncio.Future[None]:
        reserved.append(request.reserve)
        return admit(queue, request, deadline)

    monkeypatch.setattr(AdmissionQueue, "admit", counted)
    async with served(running, passing(unsure, logprobs=False), upstream_votes=64) as (client, stub):
        most = len(stub.asked) + 12  # the golden question's, and the rounds that are asked in any case
        stub.answer = lambda body: unsure(body) if len(stub.asked) <= most else error(429)
        assert (await refusal(client, "selection", sets=SETS[:1]))[0] == 429
        stub.answer = unsure
        with anyio.fail_after(30):
            while stub.under_way:  # votes of the refused round, which a new request would join
                await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        reserved.clear()
        (item,) = (await post(client, "selection", sets=SETS[:1]))["sets"]
    assert item["votes"] > 16
    (only,) = reserved
    assert only > 0


async def test_invalid_votes_are_counted(running: Running) -> None:
    voters = of_texts({"two three four five": 0.6, "two five": 0.2, "six": 0.1, "two": 0.1}, invalid=0.3)
    async with served(running, passing(voters, logprobs=False), upstream_vote_width=0) as (client, _):
        (item,) = (await post(client, "selection", sets=SETS[:1]))["sets"]
    assert item["votes"] + item["invalid_votes"] == item["orders_asked"] == 16
    assert item["invalid_votes"] > 0
    assert item["label_mass"] == pytest.approx(item["votes"] / 16)


async def test_prose_alone_gives_no_number(running: Running) -> None:
    async with served(running, passing(lambda _: said("All are fine."), logprobs=False)) as (client, _):
        status, error = await refusal(client, "score", alpha=1)
    assert (status, error["code"], error["retryable"]) == (503, "engine_failed", False)
    assert error["where"] == "sets[0]"


async def test_no_letter_returned_gives_no_number(running: Running) -> None:
    async with served(running, passing(lambda _: said("All", [("All", 1.0)]), logprobs=True)) as (client, _):
        status, error = await refusal(client, "selection")
    assert (status, error["code"], error["retryable"]) == (503, "engine_failed", False)


@pytest.mark.parametrize("logprobs", [True, False])
async def test_nothing_is_asked_twice(running: Running, logprobs: bool) -> None:
    answer = passing(lambda _: CHOSEN if logprobs else said("A"), logprobs=logprobs)
    async with served(running, answer) as (client, stub):
        first = await post(client, "selection")
        before = len(stub.asked)
        again = await post(client, "score", alpha=1)
        assert len(stub.asked) == before
    chances = [
        [one["selection_probability"] for one in each["responses"]] for each in (*first["sets"], *again["sets"])
    ]
    assert chances[:2] == chances[2:]


async def test_answers_that_were_paid_outlive_a_failure(running: Running) -> None:
    """A request that fails midway asks only for the rest when it comes again."""
    failing = True

    def answer(body: Body) -> Answer:
        return error(500) if failing and "six ten" in body["messages"][0]["content"] else CHOSEN

    async with served(running, passing(answer, logprobs=True), upstream_concurrency=1) as (client, stub):
        status, _ = await refusal(client, "selection")
        assert status == 503
        failing, before = False, len(stub.asked)
        await post(client, "selection")
        assert all("six ten" in question for question in stub.questions[before:])
        assert len(stub.asked) == before + 3


async def test_an_upstreams_429_is_passed_on(running: Running) -> None:
    busy = passing(lambda _: error(429, None, **{"Retry-After": "17"}), logprobs=True)
    async with served(running, busy) as (client, _):
        reply = await client.post("/v1/selection", json={"sets": SETS})
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "17")
        assert reply.json()["error"]["code"] == "overloaded"
        assert (await client.get("/v1/health/ready")).status_code == 200, "the service itself goes on"


async def test_a_spent_day_is_a_429_until_midnight(running: Running) -> None:
    answer = passing(lambda _: CHOSEN, logprobs=True)
    async with served(running, answer, upstream_tokens_per_day=400) as (client, _):
        long = [{"prompt": "say one " * 300, "responses": ["one", "two"]}]  # more than a day has
        reply = await client.post("/v1/selection", json={"sets": long})
    assert reply.status_code == 429
    assert reply.json()["error"]["code"] == "quota_exceeded"
    assert 0 < int(reply.headers["Retry-After"]) <= 86_400


async def test_no_more_requests_at_a_time_than_allowed(running: Running) -> None:
    sets = [{"prompt": f"say {i}", "responses": ["one", "two"]} for i in range(8)]
    async with served(running, passing(lambda _: CHOSEN, logprobs=True), upstream_concurrency=2) as (client, stub):
        await post(client, "selection", sets=sets)
        assert stub.most_under_way <= 2
        assert len(stub.asked) == 2 + 16


async def test_copies_of_one_text_are_not_asked(running: Running) -> None:
    sets = [{"prompt": "say one", "responses": ["one", "one"]}]
    for logprobs in (True, False):
        async with served(running, passing(lambda _: CHOSEN, logprobs=logprobs)) as (client, stub):
            before = len(stub.asked)
            reply = await post(client, "score", sets=sets, alpha=1)
            assert len(stub.asked) == before
        (item,) = reply["sets"]
        assert item["orders_asked"] == 0
        assert [(each["selection_probability"], each["reward"]) for each in item["responses"]] == [(1, 0)] * 2
        assert reply["usage"]["sets_of_one_text"] == 1


async def test_answers_are_kept_across_restarts(running: Running, tmp_path: Path) -> None:
    with stub_upstream(passing(lambda _: CHOSEN, logprobs=True)) as stub:
        chosen = {"engine": "openai", "upstream": stub.url, "upstream_model": MODEL, "data": tmp_path}
        for expected in (2 + 7, 2 + 7 + 2):  # the golden question, and the first time the orders of both sets
            async with running(load=lambda: load(ServeSettings(**chosen)), model=MODEL, **chosen) as (
                client,
                service,
            ):
                while service.status == "starting":
                    await anyio.sleep(0.001)
                await post(client, "selection")
            assert len(stub.asked) == expected
