"""A real service in front of a stub of a chat API: kills, secrets, and a student that learns from its choices."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pad_teacher.scoring.load import load
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.settings import ServeSettings
from support.paths import ROOT
from support.processes import TeacherProcess, student, teacher_process
from support.stub_upstream import KEY, MODEL, Answer, StubUpstream, error, passing, said, stub_upstream
from support.tiny_upstream import chat_api
from support.waiting import wait_until

WORLD = ROOT / "examples" / "tinyworld"
SETS = [{"prompt": f"say {i}", "responses": ["one", "two", "three"]} for i in range(4)]
PATIENCE = 60  # seconds, on a machine that has much else to do
DRAINED = 20  # seconds; without an end to the waiting it would be the timeout of ten minutes
CHOSEN = said("A", [("A", 0.7), ("B", 0.2), ("C", 0.05)])


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "upstream.key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture(scope="module")
def tiny_teacher() -> Teacher:
    teacher = load(ServeSettings(model=str(WORLD / "teacher"), device="cpu"))
    assert isinstance(teacher, Teacher)
    return teacher


@pytest.fixture
def stub() -> Iterator[StubUpstream]:
    with stub_upstream(passing(lambda _: CHOSEN, logprobs=True)) as stub:
        yield stub


def serve(stub: StubUpstream, key_file: Path, folder: Path, *more: str) -> AbstractContextManager[TeacherProcess]:
    options = ["--upstream", stub.url, "--upstream-model", MODEL, "--upstream-key-file", str(key_file)]
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    return teacher_process(Path(MODEL), log, *options, *more, engine="openai")


def ask(teacher: TeacherProcess, sets: list[dict[str, Any]]) -> Any:
    reply = teacher.http.post("/v1/score", json={"sets": sets, "alpha": 1})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_nothing_is_paid_twice_after_a_kill(stub: StubUpstream, key_file: Path, tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    with serve(stub, key_file, tmp_path, *data) as teacher:
        teacher.wait_until_ready()
        first = ask(teacher, SETS[:2])
        ask(teacher, SETS[2:3])  # after its answer, those before it are on the disk
        teacher.stop(signal.SIGKILL)
    before = len(stub.asked)
    with serve(stub, key_file, tmp_path, *data) as teacher:
        teacher.wait_until_ready()
        golden = len(stub.asked) - before
        again = ask(teacher, SETS[:2])
        assert len(stub.asked) - before == golden == 2
    assert again["sets"] == first["sets"]
    assert again["teacher"] == first["teacher"]


def test_a_kill_gives_no_second_days_tokens(stub: StubUpstream, key_file: Path, tmp_path: Path) -> None:
    """The golden question takes 62 tokens, and 31 each of three questions."""
    more = ["--data", str(tmp_path / "data"), "--upstream-tokens-per-day", "250"]
    with serve(stub, key_file, tmp_path, *more) as teacher:
        teacher.wait_until_ready()
        ask(teacher, SETS[:1])
        teacher.stop(signal.SIGKILL)
    with serve(stub, key_file, tmp_path, *more) as teacher:
        teacher.wait_until_ready()
        reply = teacher.http.post("/v1/selection", json={"sets": SETS[1:]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exceeded")
    assert len(stub.asked) <= 250 // 31


def test_the_key_is_in_no_output(stub: StubUpstream, key_file: Path, tmp_path: Path) -> None:
    with serve(stub, key_file, tmp_path, "--log-level", "debug", "--data", str(tmp_path / "data")) as teacher:
        teacher.wait_until_ready()
        ask(teacher, SETS)
        stub.answer = lambda _: error(401)
        refused = teacher.http.post("/v1/selection", json={"sets": [{"prompt": "new", "responses": ["a", "b"]}]})
        shown = [teacher.http.get(path).text for path in ("/v1/models", "/metrics", "/v1/usage")]
        assert refused.status_code == 503
        assert KEY not in refused.text + "".join(shown) + teacher.log.read_text()
    assert set(stub.keys) == {f"Bearer {KEY}"}
    kept = b"".join(each.read_bytes() for each in (tmp_path / "data").iterdir())
    assert KEY.encode() not in kept


@pytest.mark.parametrize("slow", [Answer({}, hangs=True), Answer({}, drips="head")])
def test_a_drain_does_not_wait_for_the_upstream(
    stub: StubUpstream, key_file: Path, tmp_path: Path, slow: Answer
) -> None:
    """Its timeout is ten minutes, and the drain has one second."""
    more = ["--upstream-timeout", "600", "--drain-seconds", "1"]
    with serve(stub, key_file, tmp_path, *more) as teacher, ThreadPoolExecutor(2) as pool:
        teacher.wait_until_ready()
        stub.answer = lambda _: slow
        waiting = [pool.submit(teacher.http.post, "/v1/selection", json={"sets": [item]}) for item in SETS[:2]]
        wait_until(lambda: stub.under_way >= 2 or len(stub.asked) >= 4, PATIENCE)
        began = time.monotonic()
        assert teacher.stop() == 0
        assert time.monotonic() - began < DRAINED
        for each in waiting:
            reply = each.result()
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_ready")
        assert "Traceback" not in teacher.log.read_text()


def test_a_question_nobody_waits_for_does_not_stop_a_drain(
    stub: StubUpstream, key_file: Path, tmp_path: Path
) -> None:
    with serve(stub, key_file, tmp_path, "--upstream-timeout", "600") as teacher:
        teacher.wait_until_ready()
        stub.answer = lambda _: Answer({}, hangs=True)
        with pytest.raises(httpx.ReadTimeout):
            teacher.http.post("/v1/selection", json={"sets": SETS[:1]}, timeout=1)
        wait_until(lambda: stub.under_way >= 1, PATIENCE)
        began = time.monotonic()
        assert teacher.stop() == 0
        assert time.monotonic() - began < DRAINED


def test_a_dripping_upstream_is_too_slow(stub: StubUpstream, key_file: Path, tmp_path: Path) -> None:
    with serve(stub, key_file, tmp_path, "--upstream-timeout", "5") as teacher:
        teacher.wait_until_ready()
        stub.answer = lambda _: Answer(" " * 4096, drips="body")
        reply = teacher.http.post("/v1/selection", json={"sets": SETS[:1]})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
        stub.answer = passing(lambda _: CHOSEN, logprobs=True)
        ask(teacher, SETS[1:2])


def test_a_model_that_was_replaced_ends_the_service(stub: StubUpstream, key_file: Path, tmp_path: Path) -> None:
    with serve(stub, key_file, tmp_path) as teacher:
        teacher.wait_until_ready()
        stub.answer = lambda _: said("A", [("A", 0.9)], model="another")
        reply = teacher.http.post("/v1/selection", json={"sets": SETS[:1]})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_failed")
        assert teacher.process.wait(30) == 1
        assert "replaced" in teacher.log.read_text()


def distill(teacher: TeacherProcess, out: Path, alpha: float) -> list[Any]:
    return [
        *("distill", "--teacher", teacher.url, "--model", WORLD / "student", "--prompts", WORLD / "prompts.jsonl"),
        *("--output-dir", out, "--alpha", alpha, "--beta-teacher", 2, "--max-steps", 2, "--prompts-per-step", 4),
        *("--n", 3, "--max-response-tokens", 12, "--use-cpu", "true", "--keep-rounds", "all"),
    ]


@pytest.mark.parametrize("logprobs", [True, False])
def test_a_student_learns_from_choices_alone(
    tiny_teacher: Teacher, key_file: Path, tmp_path: Path, logprobs: bool
) -> None:
    answer = passing(chat_api(tiny_teacher, logprobs=logprobs), logprobs=logprobs)
    out = tmp_path / "out"
    with stub_upstream(answer) as stub, serve(stub, key_file, tmp_path) as teacher:
        teacher.wait_until_ready()
        ran = student(*distill(teacher, out, alpha=1))
        assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for path in out.glob("rounds/*/scored.jsonl") for line in path.read_text().splitlines()]
    assert lines
    for line in lines:
        assert all("log_likelihood" not in each and each["selection_probability"] > 0 for each in line["responses"])
        assert ("votes" in line) is not logprobs
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(0 <= loss <= 0.6932 for loss in losses)


def test_alpha_below_1_is_refused_before_sampling(stub: StubUpstream, key_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serve(stub, key_file, tmp_path) as teacher:
        teacher.wait_until_ready()
        before = len(stub.asked)
        ran = student(*distill(teacher, out, alpha=0.8))
    assert ran.returncode == 1
    assert "alpha is 0.8" in ran.stderr
    assert "set alpha to 1" in ran.stderr
    assert len(stub.asked) == before
    assert not list(out.glob("rounds/*/*.jsonl")), "nothing was sampled"
