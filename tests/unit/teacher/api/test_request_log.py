"""The log of requests: a line each, but for a flood of refused ones."""

import pytest
from structlog.testing import capture_logs

from pad_teacher.api import request_log
from pad_teacher.api.request_log import REFUSED_A_SECOND, RequestLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the log sees; a test moves them."""
    now = [100.0]
    monkeypatch.setattr(request_log.time, "monotonic", lambda: now[0])
    return now


def write(log: RequestLog, status: int, key: str | None = "greedy", failure: Exception | None = None) -> None:
    fields = {} if key is None else {"key": key}
    log.write(status, failure, is_probe=False, route="/v1/score", **fields)


@pytest.mark.parametrize("status", [401, 422, 429, 499, 503, 504])
@pytest.mark.parametrize("key", ["greedy", None])
def test_a_flood_of_refusals_has_few_lines_and_is_counted(clock: list[float], status: int, key: str | None) -> None:
    log = RequestLog()
    with capture_logs() as lines:
        for _ in range(1000):
            write(log, status, key)
        clock[0] += 1
        write(log, status, key)
    assert len(lines) == REFUSED_A_SECOND + 1
    assert lines[-1]["not_logged"] == 1000 - REFUSED_A_SECOND
    assert {line["not_logged"] for line in lines[:-1]} == {None}


def test_a_flood_of_one_key_hides_no_line_of_others(clock: list[float]) -> None:
    log = RequestLog()
    with capture_logs() as lines:
        for _ in range(100):
            write(log, 422)
        write(log, 422, "polite")
        write(log, 401, None)
    assert [line.get("key") for line in lines[REFUSED_A_SECOND:]] == ["polite", None]


def test_served_requests_and_faults_of_the_service_have_lines(clock: list[float]) -> None:
    log = RequestLog()
    with capture_logs() as lines:
        for _ in range(50):
            write(log, 422)
            write(log, 200)
            write(log, 500, failure=RuntimeError())
    assert len(lines) == 100 + REFUSED_A_SECOND
    assert {line["log_level"] for line in lines if line["status"] == 500} == {"error"}
