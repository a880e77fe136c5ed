"""The console's curves over an hour of events, which come faster than the service sends them."""

from collections.abc import Iterator

import pytest
from benchmarks.harness.event_stream import first_event, memory_of, pushed, with_stream
from playwright.sync_api import Browser, Page, expect

from support.processes import TeacherProcess

FULL = 1200  # events, after which the curves drop the oldest


@pytest.fixture
def page(browser: Browser, shared_teacher: TeacherProcess) -> Iterator[Page]:
    """The console, whose events a test sends."""
    context = browser.new_context()
    page = context.new_page()
    with_stream(page, shared_teacher.url)
    page.click("#rate summary")
    yield page
    context.close()


def rows(page: Page) -> list[list[str]]:
    """The lines of the curves' table: minutes, tokens a second, tokens that wait."""
    lines = page.locator("#rate .wide tbody tr").all()
    return [line.locator("th, td").all_inner_texts() for line in lines]


def test_an_hour_of_events_leaves_memory_flat(page: Page, shared_teacher: TeacherProcess) -> None:
    state = pushed(page, first_event(shared_teacher.url), FULL)
    (heap, nodes), state = memory_of(page), pushed(page, state, 3600)
    heap_after, nodes_after = memory_of(page)
    assert abs(nodes_after - nodes) < 100
    assert heap_after - heap < 1


def test_the_curves_are_those_of_the_last_quarter_of_an_hour(page: Page, shared_teacher: TeacherProcess) -> None:
    state = pushed(page, first_event(shared_teacher.url) | {"queued_tokens": 70}, FULL)
    now = state["uptime_seconds"] / 60
    found = rows(page)
    assert found[-1][0] == f"{now:.4g}"
    assert found[0][0] == f"{now - 15:.4g}"
    for _, rate, waiting in found:
        assert 100 < float(rate) < 106  # as many were scored in each second
        assert waiting == "70"


def test_a_service_that_starts_again_has_curves_of_its_own(page: Page, shared_teacher: TeacherProcess) -> None:
    before = pushed(page, first_event(shared_teacher.url), 60)
    pushed(page, before | {"uptime_seconds": 6.0, "tokens_scored": 0}, 6)
    expect(page.locator("#rate .wide tbody tr")).to_have_count(6)
    assert [line[0] for line in rows(page)] == [f"{second / 60:.4g}" for second in range(7, 13)]
