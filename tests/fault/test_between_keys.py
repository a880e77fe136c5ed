"""What one key, or a web page, may learn of and do to others; against real processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pad_teacher.admission.keys import add_key
from support.processes import TeacherProcess, teacher_process
from support.waiting import wait_until

ONE = {"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}
SERIES = 256  # of tokens by job, for each key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file, and the headers of three keys."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    limits: dict[str, Any] = {"noisy": {}, "quiet": {}, "watcher": {"metrics": True}}
    return {"file": file} | {
        name: {"Authorization": f"Bearer {add_key(file, name, **more)}"} for name, more in limits.items()
    }


@pytest.fixture(scope="module")
def teacher(
    tiny_directory: Path, keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TeacherProcess]:
    log = tmp_path_factory.mktemp("teacher") / "log"
    with teacher_process(tiny_directory, log, "--keys", str(keys["file"])) as teacher:
        teacher.wait_until_ready()
        yield teacher


def ask(teacher: TeacherProcess, key: dict[str, str], job: str) -> int:
    return teacher.http.post("/v1/likelihood", json=ONE, headers=key | {"X-Job-Id": job}).status_code


def test_many_job_names_of_one_key_hide_no_others(teacher: TeacherProcess, keys: dict[str, Any]) -> None:
    assert {ask(teacher, keys["noisy"], f"job{number}") for number in range(SERIES + 20)} == {200}
    assert ask(teacher, keys["quiet"], "nightly") == 200
    [job] = teacher.http.get("/v1/usage", headers=keys["quiet"]).json()["jobs"]
    assert job["job"] == "nightly"
    series = [
        line
        for line in teacher.http.get("/metrics", headers=keys["watcher"]).text.splitlines()
        if line.startswith("pad_job_tokens_total{")
    ]
    assert sum('key="noisy"' in line for line in series) == SERIES + 1
    assert [line for line in series if 'key="quiet"' in line and 'job="nightly"' in line]


def test_a_key_reads_nothing_of_others(teacher: TeacherProcess, keys: dict[str, Any]) -> None:
    assert ask(teacher, keys["quiet"], "secret-merger") == 200
    routes = ("/metrics", "/v1/usage", "/v1/models", "/openapi.json", "/v1/health/ready", "/health", "/v1/events")
    for route in routes:
        with teacher.http.stream("GET", route, headers=keys["noisy"]) as reply:
            assert reply.status_code == (403 if route == "/metrics" else 200)
            text = next(reply.iter_lines()) if route == "/v1/events" else reply.read().decode()
        assert text
        assert not {"secret-merger", "quiet"} & set(text.replace('"', " ").split())
    assert teacher.http.get("/metrics").status_code == 401


def test_a_broken_key_file_keeps_nobody_who_was_taken_out(tiny_directory: Path, tmp_path: Path) -> None:
    leaked, kept = (add_key(tmp_path / "keys", name) for name in ("leaked", "kept"))
    with teacher_process(tiny_directory, tmp_path / "log", "--keys", str(tmp_path / "keys")) as teacher:
        teacher.wait_until_ready()

        def status(key: str) -> int:
            return teacher.http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

        assert (status(leaked), status(kept)) == (200, 200)
        lines = [line for line in (tmp_path / "keys").read_text().splitlines() if "leaked" not in line]
        (tmp_path / "keys").write_text("\n".join(["half a line", *lines]))
        wait_until(lambda: status(leaked) == 401, 30)
        assert status(kept) == 200
        assert "half a line" not in teacher.log.read_text()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
        {"Origin": "https://evil.example", "Content-Type": "application/json"},
        {"Host": "evil.example", "Content-Type": "application/json"},
    ],
)
def test_a_web_page_gets_no_work_out_of_a_real_service(
    shared_teacher: TeacherProcess, headers: dict[str, str]
) -> None:
    reply = httpx.post(
        f"{shared_teacher.url}/v1/score", content=httpx.Request("POST", "http://a", json=ONE).read(), headers=headers
    )
    assert reply.status_code in {401, 403}
