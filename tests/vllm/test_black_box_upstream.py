"""A teacher behind the real vLLM server, next to the same model in the service itself: ``make test-vllm``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from pad_teacher.errors import CannotServe
from pad_teacher.scoring.load import load
from pad_teacher.settings import ServeSettings
from support.paths import ROOT
from support.processes import TeacherProcess, teacher_process
from support.stub_upstream import Answer, Body, error, stub_upstream
from support.vllm_server import vllm_server

MODEL = ROOT / "examples" / "tinyworld" / "teacher"
KEY = "sk-vllm-7c1e"
NEAR = 1e-6
VOTES = 120  # a multiple of 2, 3 and 4 orders
SETS: list[dict[str, Any]] = [
    {"prompt": "count from two to five", "responses": ["two three four five", "two five", "six", "two"]},
    {"prompt": "put these numbers in order: six ten four", "responses": ["four six ten", "ten", "six four"]},
    {"prompt": "count from one to three", "responses": ["one two three", "two three"]},
]
Change = Callable[[Body], Body | Answer]


class Upstream(NamedTuple):
    """The address of a vLLM server, and the file of its key."""

    url: str
    key_file: Path


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("vllm")
    key_file = folder / "key"
    key_file.write_text(KEY)
    with vllm_server(MODEL, folder / "log", "--generation-config=vllm", f"--api-key={KEY}") as url:
        yield Upstream(f"{url}/v1", key_file)


@contextmanager
def behind(vllm: Upstream, log: Path, *more: str, change: Change | None = None) -> Iterator[TeacherProcess]:
    """The service in front of vLLM; ``change`` may change what it asks on the way there, or refuse it."""

    def answer(body: Body) -> Answer:
        changed = change(body) if change else body
        if isinstance(changed, Answer):
            return changed
        try:
            reply = to_vllm.post(f"{vllm.url}/chat/completions", json=changed)
        except httpx.HTTPError as error:
            return Answer(f"vLLM gave no reply: {error!r}", 502)
        return Answer(reply.text, reply.status_code)

    with ExitStack() as stack:
        # vLLM closes connections that were idle for five seconds.
        to_vllm = stack.enter_context(
            httpx.Client(
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=120,
                limits=httpx.Limits(keepalive_expiry=1),
            )
        )
        url = stack.enter_context(stub_upstream(answer)).url if change else vllm.url
        options = [
            "--upstream",
            url,
            "--upstream-model",
            str(MODEL),
            "--upstream-key-file",
            str(vllm.key_file),
            *more,
        ]
        service = stack.enter_context(teacher_process(MODEL, log, *options, engine="openai"))
        service.wait_until_ready()
        yield service


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    log = tmp_path_factory.mktemp("embedded") / "log"
    with teacher_process(MODEL, log, "--dtype", "float32", engine="transformers") as teacher:
        teacher.wait_until_ready()
        yield teacher


def selection(teacher: TeacherProcess, **how: Any) -> list[dict[str, Any]]:
    reply = teacher.http.post("/v1/selection", json={"sets": SETS, **how})
    assert reply.status_code == 200, reply.text
    return reply.json()["sets"]


def pairs(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each response of the one with that of the other."""
    return [
        pair
        for mine, theirs in zip(one, other, strict=True)
        for pair in zip(mine["responses"], theirs["responses"], strict=True)
    ]


def estimator(teacher: TeacherProcess) -> str:
    return teacher.http.get("/v1/models").json()["data"][0]["estimator"]


def test_vllms_label_probabilities_are_the_embedded_engines(
    vllm: Upstream, embedded: TeacherProcess, tmp_path: Path
) -> None:
    with behind(vllm, tmp_path / "log") as teacher:
        assert estimator(teacher) == "label_probabilities"
        for how in ({}, {"form": "pairwise"}, {"orders": "adaptive"}):
            ours, theirs = (selection(each, **how) for each in (teacher, embedded))
            for mine, other in zip(ours, theirs, strict=True):
                assert mine["label_mass"] == pytest.approx(other["label_mass"], abs=NEAR)
                assert mine["orders_asked"] == other["orders_asked"]
            for mine, other in pairs(ours, theirs):
                assert mine["selection_probability"] == pytest.approx(other["selection_probability"], abs=NEAR)
                low, high = mine["selection_interval"]
                assert low - NEAR <= other["selection_probability"] <= high + NEAR
        long = [{"prompt": "one two three " * 400, "responses": ["one", "two"]}]
        refused = teacher.http.post("/v1/selection", json={"sets": long})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "too_long")
        assert KEY not in teacher.log.read_text()


def test_vllms_five_likeliest_tokens_bound_the_probability(
    vllm: Upstream, embedded: TeacherProcess, tmp_path: Path
) -> None:
    def five(body: Body) -> Body | Answer:
        return error(400, "BadRequestError") if body.get("top_logprobs", 0) > 5 else body

    with behind(vllm, tmp_path / "log", change=five) as teacher:
        assert estimator(teacher) == "label_probabilities"
        ours = selection(teacher)
    for mine, other in pairs(ours, selection(embedded)):
        low, high = mine["selection_interval"]
        assert low - NEAR <= other["selection_probability"] <= high + NEAR


def test_vllms_votes_are_drawn_from_the_same_distribution(
    vllm: Upstream, embedded: TeacherProcess, tmp_path: Path
) -> None:
    def letters(body: Body) -> Body | Answer:
        """One token each: this model has learnt to name a letter, and not to end after it."""
        return error(400, "BadRequestError") if body.get("logprobs") else {**body, "max_tokens": 1}

    more = ["--upstream-votes", str(VOTES), "--upstream-vote-width", "0", "--upstream-concurrency", "32"]
    with behind(vllm, tmp_path / "log", *more, change=letters) as teacher:
        assert estimator(teacher) == "votes"
        ours = selection(teacher)
    assert [each["votes"] + each["invalid_votes"] for each in ours] == [VOTES] * len(SETS)
    for mine, other in pairs(ours, selection(embedded)):
        chance = other["selection_probability"]
        off = abs(mine["selection_probability"] - chance)
        assert off < 4 * (chance * (1 - chance) / VOTES) ** 0.5 + 3 / VOTES


def test_a_key_that_vllm_refuses_is_no_teacher(vllm: Upstream, tmp_path: Path) -> None:
    wrong = tmp_path / "key"
    wrong.write_text("sk-wrong")
    options = {"upstream": vllm.url, "upstream_model": str(MODEL), "upstream_key_file": wrong}
    with pytest.raises(CannotServe, match=r"refuses the service's key \(401\)") as refused:
        load(ServeSettings.model_validate({"engine": "openai", **options}))
    assert "sk-wrong" not in str(refused.value)
