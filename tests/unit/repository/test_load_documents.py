"""Pages about a service under load: they quote the committed results, which are good enough."""

import json
from typing import Any

import pytest

from support.paths import ROOT


def page(name: str) -> str:
    """A page's text with its lines joined."""
    return " ".join((ROOT / name).read_text().split())


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["attacks", "attacks_qwen2.5-coder-0.5b-instruct"])
def test_the_attacks_page_quotes_numbers_within_their_limits(name: str) -> None:
    text, measured = page("docs/measurements/attacks.md"), result(name)
    quiet = measured["attacks"]["none"]["polite_p95_ms"]
    for attack, numbers in measured["attacks"].items():
        cells = (numbers["polite_p95_ms"], numbers["health_p95_ms"])
        row = " | ".join([*(f"{each:,.1f}" for each in cells), f"{numbers['above_quiet_mib']}"])
        assert f"| {attack} | {row} | {numbers['log_lines_a_second']:.1f} |" in text
        assert numbers["over"] == []
        assert numbers["polite_p95_ms"] <= max(3 * quiet, 300)
    bodies = measured.get("largest_bodies_in_mib", {}).get("bodies", {})
    assert not any(each["over"] for each in bodies.values())
    if bodies:
        assert f"{len(bodies)} bodies" in text
        assert f"{max(each['peak_mib'] for each in bodies.values()):,} MiB" in text


def test_the_event_loop_page_quotes_every_body() -> None:
    text, measured = page("docs/measurements/event-loop.md"), result("event_loop")
    for case, values in measured["cases"].items():
        late, held = values["late_ms"], values["held_ms"]["worst"]
        row = (
            f"| {case} | {late['p99']:.1f} | {late['worst']:.1f} | {held:.1f} | {values['longest_step_own_ms']:.1f} |"
        )
        assert row in text
        assert values["longest_step_own_ms"] <= 50
        assert held <= 50


def test_the_event_loop_page_quotes_the_pages() -> None:
    text, measured = page("docs/measurements/event-loop.md"), result("pages")
    loop = measured["event_loop_with_ten_pages"]
    assert f"longest own step was {loop['longest_step_own_ms']:.1f} ms" in text
    assert loop["longest_step_own_ms"] < 10
    for name, paint in measured["first_paint_ms"].items():
        assert f"{name} {paint['median']:.0f} ms" in text
        assert paint["worst"] < 500
    hour = measured["an_hour_of_events"]
    assert f"{hour['before']['heap_mib']:.1f} and {hour['after']['heap_mib']:.1f} MiB" in text
    assert hour["after"]["heap_mib"] - hour["before"]["heap_mib"] < 1


def test_the_start_takes_at_most_a_tenth_longer_than_it_did() -> None:
    measured = result("start_time")
    ours, before = measured["starts"]
    said = f"{ours['median_seconds']:.1f} s, {before['median_seconds']:.1f} s at commit b2999d2"
    assert said in page("docs/verification.md")
    assert measured["ratio_of_medians"] <= 1.10
