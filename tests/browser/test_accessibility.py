"""Accessibility by axe-core: no page has a fault that it calls serious or critical, light or dark, wide or narrow."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from pad_student.evaluation.live.folder import RunFolder
from pad_student.evaluation.live.server import RunsServer
from pad_student.evaluation.report.collect import collect
from pad_student.evaluation.report.page import build
from pad_teacher.admission.keys import add_key
from support.fake_run import fake_run
from support.processes import TeacherProcess, teacher_process

SCREENS: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
]
NAMES = ["light", "dark phone"]


def serious(page: Page) -> list[str]:
    """The rules that the page breaks, each with the first element that does."""
    found = [each for each in Axe().run(page).response["violations"] if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


@contextmanager
def opened(browser: Browser, url: str, screen: dict[str, Any]) -> Iterator[Page]:
    context = browser.new_context(**screen)
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def open_all(page: Page) -> None:
    """Open each part that can be opened, so that nothing is hidden from the check."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("screen", SCREENS, ids=NAMES)
def test_the_console_has_no_serious_fault(
    browser: Browser, shared_teacher: TeacherProcess, screen: dict[str, Any]
) -> None:
    with opened(browser, shared_teacher.url, screen) as page:
        expect(page.locator("#state")).to_have_text("Ready.")
        page.click("#score")
        expect(page.locator("#rankings tr").first).to_be_visible()
        open_all(page)
        assert serious(page) == []
        page.goto(f"{shared_teacher.url}/docs")
        open_all(page)
        assert serious(page) == []


@pytest.mark.parametrize("screen", SCREENS, ids=NAMES)
def test_the_question_for_a_key_has_no_serious_fault(
    browser: Browser, tiny_directory: Path, tmp_path: Path, screen: dict[str, Any]
) -> None:
    add_key(tmp_path / "keys", "ada")
    with (
        teacher_process(tiny_directory, tmp_path / "log", "--keys", str(tmp_path / "keys")) as teacher,
        opened(browser, teacher.url, screen) as page,
    ):
        page.fill("#key", "no key")
        page.keyboard.press("Enter")
        expect(page.locator("#key-problem")).to_be_visible()
        assert serious(page) == []


@pytest.mark.parametrize("screen", SCREENS, ids=NAMES)
def test_the_page_of_runs_has_no_serious_fault(browser: Browser, tmp_path: Path, screen: dict[str, Any]) -> None:
    for name in ("one", "two"):
        fake_run(tmp_path / name, name)
    (fake_run(tmp_path / "bad") / "metrics.jsonl").write_text("no\nno\n")
    with RunsServer(RunFolder(tmp_path), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with opened(browser, server.url, screen) as page:
                expect(page.locator("#state")).to_have_text("3 runs, 2 shown.")
                page.locator("figure[data-curve=loss]").scroll_into_view_if_needed()
                expect(page.locator("figure[data-curve=loss] canvas")).to_be_visible()
                open_all(page)
                assert serious(page) == []
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("screen", SCREENS, ids=NAMES)
def test_the_report_has_no_serious_fault(browser: Browser, tmp_path: Path, screen: dict[str, Any]) -> None:
    file = tmp_path / "report.html"
    file.write_text(build(collect(fake_run(tmp_path / "run"))), encoding="utf-8")
    with opened(browser, file.as_uri(), screen) as page:
        open_all(page)
        assert serious(page) == []
