"""The largest bodies of every route: the service lives within 2 GiB, and answers health and others meanwhile."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from benchmarks.harness.largest_bodies import largest_bodies

from support.processes import TeacherProcess, teacher_process

BODIES = largest_bodies()
LONG = {  # accepted, and computed for a minute or more: python -m benchmarks.attacks has them
    "few texts",
    "few texts, every token's number",
    "many texts",
    "questions in every order",
    "completions of many texts",
    "completions of lists of ids",
}


@pytest.fixture(scope="module")
def teacher(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    log = tmp_path_factory.mktemp("teacher") / "log"
    with teacher_process(tiny_directory, log, data_bytes=2 * 2**30) as teacher:
        teacher.wait_until_ready()
        yield teacher


@pytest.mark.parametrize("name", sorted(set(BODIES) - LONG))
def test_a_largest_body_ends_no_service_and_stops_no_health(teacher: TeacherProcess, name: str) -> None:
    route, body = BODIES[name]

    def post() -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return httpx.post(f"{teacher.url}{route}", content=body, headers=headers, timeout=300)

    most, answers = 0.0, 0
    with ThreadPoolExecutor(2) as pool, httpx.Client(base_url=teacher.url, timeout=60) as probe:
        posted = [pool.submit(post) for _ in range(2)]
        while not all(each.done() for each in posted) or not answers:
            before = teacher.cpu_seconds()
            assert probe.get("/v1/health/ready").status_code == 200
            most, answers = max(most, teacher.cpu_seconds() - before), answers + 1
            time.sleep(0.01)
    for each in posted:
        reply = each.result()
        assert reply.status_code < 500
        assert len(reply.content) < 1000 or reply.status_code == 200
    assert most < 2, "health waited while the service computed so long; python -m benchmarks.event_loop has more"
    assert teacher.process.poll() is None
