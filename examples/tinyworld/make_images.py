"""The documents' pictures, from real pages in Chromium: ``python examples/tinyworld/make_images.py RUNS``.

RUNS holds the finished runs of two demos, ``one`` and ``two``, of which the second has other settings:

    python examples/tinyworld/demo.py --out RUNS/one
    python examples/tinyworld/demo.py --out RUNS/two --recommended SETTINGS.yaml    # of one line, alpha: 0.0
"""

import argparse
import itertools
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from pad_student.evaluation.live.folder import RunFolder
from pad_student.evaluation.live.server import RunsServer
from pad_student.teacher.client import Teacher
from pad_wire import SampledSet

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
WIDTH = 1100
LIVE_SECONDS = 60.0
sys.path.insert(0, str(ROOT / "examples"))

from served import teacher_service


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    runs = parser.parse_args().runs.resolve()
    with sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        report(browser, runs / "one" / "student" / "report.html")
        followed(browser, runs)
        with teacher_service(ROOT / "examples" / "tinyworld" / "teacher", runs / "teacher.log") as url:
            live(browser, url)
            console(browser, url)
        browser.close()


def report(browser: Browser, page_file: Path) -> None:
    """The report of one run, to the end of its curves."""
    page = opened(browser, page_file.as_uri())
    expect(page.locator("canvas").first).to_be_visible()
    saved(page, "report", height=1335)


def followed(browser: Browser, runs: Path) -> None:
    """The page of runs, two over each other."""
    with RunsServer(RunFolder(runs), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened(browser, f"http://127.0.0.1:{server.server_port}/")
        expect(page.locator("canvas").first).to_be_visible()
        saved(page, "runs", height=1200)
        server.shutdown()


def live(browser: Browser, url: str) -> None:
    """The console's first part while three jobs score: one all the time, the others in the middle."""
    page = opened(browser, url)
    jobs = (
        ("ada", 0, LIVE_SECONDS),
        ("ben", LIVE_SECONDS / 4, LIVE_SECONDS / 2),
        ("eve", LIVE_SECONDS / 2, LIVE_SECONDS / 4),
    )
    with ThreadPoolExecutor(len(jobs)) as threads:
        working = [threads.submit(scores, url, *job) for job in jobs]
        page.wait_for_timeout(1000 * (LIVE_SECONDS - 2))
        expect(page.locator("#jobs tr")).to_have_count(len(jobs))
        page.evaluate("scrollTo(0, 0)")
        end = page.locator("#try").bounding_box() or {}
        saved(page, "console-now", height=round(end["y"]))
        for each in working:
            each.result()


def scores(url: str, job: str, wait: float, seconds: float) -> None:
    """Score sets as one job for some seconds, after a wait."""
    time.sleep(wait)
    until = time.monotonic() + seconds
    with Teacher(url, job=job) as teacher:
        for number in itertools.count():
            if time.monotonic() > until:
                break
            words = [f"{job} {number}", "two three", f"{number} three two"]
            teacher.score([SampledSet(id="s", prompt=f"count to {number}", responses=words)])


def console(browser: Browser, url: str) -> None:
    """The console with its example scored: what the teacher finds of each token, order and ranking."""
    page = opened(browser, url)
    page.click("#score")
    expect(page.locator("#rankings tr").first).to_be_visible()
    expect(page.locator("#jobs tr").first).to_be_visible()  # what comes after it has its place then
    page.evaluate("scrollTo(0, 0)")
    top, end = (page.locator(name).bounding_box() or {} for name in ("#try", "#rankings tr:nth-child(6)"))
    saved(page, "console", height=round(end["y"] - top["y"]), top=round(top["y"]))


def opened(browser: Browser, url: str) -> Page:
    """The page in a window of the pictures' width, in light colours."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light", reduced_motion="reduce")
    page.goto(url)
    return page


def saved(page: Page, name: str, height: int, top: int = 0) -> None:
    """Write ``height`` pixels of the page, from ``top``."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": top, "width": WIDTH, "height": height})
    page.close()
    print(path)


if __name__ == "__main__":
    main()
