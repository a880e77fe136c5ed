"""The limits of the measurement under attack, and its largest bodies."""

import pytest
from benchmarks.attacks import judged
from benchmarks.harness.largest_bodies import LARGEST, largest_bodies

QUIET = {"polite_p95_ms": 200.0, "health_p95_ms": 5.0, "peak_mib": 500, "log_lines_a_second": 0.0}


@pytest.mark.parametrize(
    ("name", "most"),
    [("polite_p95_ms", 600.0), ("health_p95_ms", 50.0), ("peak_mib", 800), ("log_lines_a_second", 10.0)],
)
def test_a_number_is_over_its_limit_and_not_at_it(name: str, most: float) -> None:
    assert judged(QUIET | {name: most}, QUIET)["over"] == []
    shown = {"peak_mib": "above_quiet_mib"}.get(name, name)
    assert judged(QUIET | {name: most + 1}, QUIET)["over"] == [shown]


def test_a_quick_service_may_take_300_ms() -> None:
    assert judged(QUIET | {"polite_p95_ms": 300.0}, QUIET | {"polite_p95_ms": 10.0})["over"] == []


def test_the_largest_bodies_are_within_their_limit() -> None:
    for route, body in largest_bodies().values():
        assert len(body) <= (LARGEST // 2 if "completions" in route else LARGEST)
