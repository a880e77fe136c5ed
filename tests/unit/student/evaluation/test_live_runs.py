"""The runs below a folder as the page of runs gets them, and the server that it gets them from."""

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pad_student.evaluation.live.document import document
from pad_student.evaluation.live.folder import RunFolder
from pad_student.evaluation.live.server import PAGES, POLICY, RunsServer
from pad_student.evaluation.report.changes import MOST_WORDS, changes
from pad_student.evaluation.report.charts import MOST_POINTS
from pad_student.evaluation.report.collect import collect
from support.fake_run import STEPS, fake_run, metrics


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def listed(runs: RunFolder, clock: Clock) -> dict[str, dict[str, Any]]:
    clock.time += 60
    return {run["name"]: run for run in orjson.loads(runs.listed())["runs"]}


def whole(runs: RunFolder, run: dict[str, Any]) -> dict[str, Any]:
    found = runs.whole(run["id"])
    assert found is not None
    return orjson.loads(found)


def append(run: Path, text: str) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(text)


def test_runs_are_found_at_any_depth_and_as_the_folder(tmp_path: Path, clock: Clock) -> None:
    for name in ("a", "deep/er/b"):
        fake_run(tmp_path / name)
    assert set(listed(RunFolder(tmp_path, clock), clock)) == {"a", "deep/er/b"}
    assert set(listed(RunFolder(tmp_path / "a", clock), clock)) == {"a"}


def test_a_new_run_and_a_removed_one_are_noticed(tmp_path: Path, clock: Clock) -> None:
    runs = RunFolder(tmp_path, clock)
    assert listed(runs, clock) == {}
    run = fake_run(tmp_path / "a")
    assert set(listed(runs, clock)) == {"a"}
    for file in run.iterdir():
        file.unlink()
    assert listed(runs, clock) == {}


def test_a_growing_run_is_read_up_to_its_last_whole_line(tmp_path: Path, clock: Clock) -> None:
    run, runs = fake_run(tmp_path / "a"), RunFolder(tmp_path, clock)
    before = listed(runs, clock)["a"]
    line = json.dumps(metrics(STEPS + 1))
    append(run, line[:40])
    torn = listed(runs, clock)["a"]
    assert (torn["steps"], torn["problem"]) == (STEPS, None)
    append(run, line[40:] + "\n")
    after = listed(runs, clock)["a"]
    assert after["steps"] == STEPS + 1
    assert after["version"] != before["version"]
    assert whole(runs, after)["x"]["step"][-1] == STEPS + 1


def test_a_run_is_read_again_only_if_a_file_has_changed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, runs = fake_run(tmp_path / "a"), RunFolder(tmp_path, clock)
    listed(runs, clock)
    read: list[Path] = []
    monkeypatch.setattr(
        "pad_student.evaluation.live.folder.collect", lambda folder: read.append(folder) or collect(folder)
    )
    listed(runs, clock)
    assert read == []
    append(run, json.dumps(metrics(STEPS + 1)) + "\n")
    listed(runs, clock)
    assert read == [run]


@pytest.mark.parametrize("text", ["not JSON\n{}\n", "5\n", '{"loss": 1}\n', '{"step": "x"}\n{"step": 1}\n'])
def test_a_run_that_cannot_be_read_hides_no_other(tmp_path: Path, clock: Clock, text: str) -> None:
    fake_run(tmp_path / "good")
    (fake_run(tmp_path / "bad") / "metrics.jsonl").write_text(text)
    found = listed(RunFolder(tmp_path, clock), clock)
    assert found["bad"]["problem"]
    assert found["good"]["problem"] is None


def test_links_lead_nowhere(tmp_path: Path, clock: Clock) -> None:
    """Neither of a folder nor of a file; and a file that never ends is not waited for."""
    outside = fake_run(tmp_path / "outside", "secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "run").symlink_to(outside)
    run = fake_run(inside / "a")
    (run / "shown.jsonl").unlink()
    (run / "shown.jsonl").symlink_to(outside / "shown.jsonl")
    other = fake_run(inside / "b", leave_out=("shown",))
    os.mkfifo(other / "shown.jsonl")
    found = listed(RunFolder(inside, clock), clock)
    assert set(found) == {"a", "b"}
    assert "is a link" in found["a"]["problem"]
    assert found["b"]["problem"] is None
    assert "secret" not in json.dumps(found)


def test_hours_and_tokens_are_sums_up_to_a_steps_first_time(tmp_path: Path) -> None:
    """Steps that were done again after a kill count for those that follow."""
    run = fake_run(tmp_path)
    lines = [{"step": k, "seconds/a": 3600, "seconds/b": 0, "teacher_tokens": 10} for k in (1, 2, 3, 2, 3, 4)]
    (run / "costs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "metrics.jsonl").write_text("".join(json.dumps(metrics(k)) + "\n" for k in range(1, 6)))
    found = document(collect(run))["x"]
    assert found["hours"] == [1, 2, 3, 6, None]
    assert found["teacher_tokens"] == [10, 20, 30, 60, None]


def test_a_run_without_costs_has_its_steps_alone(tmp_path: Path) -> None:
    run = fake_run(tmp_path, leave_out=("costs",))
    assert set(document(collect(run))["x"]) == {"step"}


def test_a_warning_has_its_step_and_the_curve_that_shows_it(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    lines = [metrics(k) | {"label_mass": 0.1} for k in range(1, 31)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (warned,) = document(collect(run))["warned"]
    assert warned["curve"] == "label_mass"
    assert warned["x"]["step"] == 20
    assert "option letters" in warned["text"]


def test_of_many_steps_means_are_sent_and_said_to_be_such(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    lines = [{"step": k, "loss": k % 2} for k in range(1, 2 * MOST_POINTS + 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = document(collect(run))
    assert found["every"] == 2
    (loss,) = [figure["values"] for figure in found["figures"] if figure["name"] == "loss"]
    assert loss == [0.5] * MOST_POINTS == [0.5] * len(found["x"]["step"])


def test_changes_are_the_words_that_the_closest_text_lacks() -> None:
    others = ("one two three", "nothing alike")
    assert changes("one two four", others) == (("one two ", False), ("four", True))
    assert changes("one two three", others) == (("one two three", False),)
    assert changes("", others) == ()
    assert changes("alone", ()) == (("alone", False),)
    odd = "<b>a</b> שלום\n\u202e" + "w" * 10_000
    assert "".join(part for part, _ in changes(odd, others)) == odd
    assert changes("a " * MOST_WORDS, others) == (("a " * MOST_WORDS, False),)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunsServer]:
    fake_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "private").write_text("private")
    with RunsServer(RunFolder(tmp_path / "runs"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(server: RunsServer, path: str, method: str = "GET", host: str = "localhost") -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={"Host": host})
    reply = connection.getresponse()
    found = reply.status, reply.read(), reply.headers
    connection.close()
    return found


def test_the_page_and_its_files_are_served_with_a_policy(server: RunsServer) -> None:
    for path in (*PAGES, "/api/runs"):
        status, body, headers = asked(server, path)
        assert (status, headers["Content-Security-Policy"]) == (200, POLICY)
        assert int(headers["Content-Length"]) == len(body) > 0
        assert asked(server, path, "HEAD")[1] == b""
    assert asked(server, "/")[2]["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/private",
        "/../private",
        "/assets/../private",
        "/api/runs/a",
        "/api/runs/..%2f..%2fprivate",
        "/assets/",
        "//etc/passwd",
    ],
)
def test_nothing_else_is_served(server: RunsServer, path: str) -> None:
    assert asked(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(server: RunsServer, method: str) -> None:
    status, body, headers = asked(server, "/api/runs", method)
    assert (status, headers["Content-Security-Policy"]) == (501, POLICY)
    assert b"GET and HEAD alone" in body


def test_a_name_that_another_site_points_here_is_refused(server: RunsServer) -> None:
    assert asked(server, "/api/runs", host="evil.example")[0] == 421
    assert asked(server, "/api/runs", host="[::1]:8020")[0] == 200
    assert asked(server, "/api/runs", host="LOCALHOST:1")[0] == 200
