"""The pages: seconds to the first paint, memory over an hour of events, and the event loop with ten pages open.

    python -m benchmarks.pages

The service and the tiny teacher are a separate process on loopback, and so is Chromium (Debian's `chromium`). The
hour of events is sent to one console as fast as it takes them. The event loop is that of `benchmarks.event_loop`; ten
clients read `/v1/events` while two post requests of 8 sets. Writes results/pages.json.
"""

import asyncio
import json
import shutil
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from playwright.sync_api import Browser, sync_playwright

from benchmarks.harness.environment import RESULTS, ROOT, circumstances
from benchmarks.harness.event_stream import first_event, memory_of, pushed, with_stream
from benchmarks.harness.service_process import harness_service, pad_teacher
from benchmarks.harness.watched_service import RESET, VALUES
from pad_student.evaluation.live.folder import RunFolder
from pad_student.evaluation.live.server import RunsServer

TEACHER = ROOT / "examples" / "tinyworld" / "teacher"
LOADS = 20  # of each page
FULL, HOUR = 1200, 3600  # events until nothing is left to fill; events of an hour
PAGES, CLIENTS, SECONDS = 10, 2, 20
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    result: dict[str, Any] = {"circumstances": circumstances("pages", "cpu")}
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with (
            pad_teacher(Path(folder) / "log", "--model", TEACHER) as service,
            RunsServer(RunFolder(Path(folder)), "127.0.0.1", 0) as runs,
        ):
            threading.Thread(target=runs.serve_forever, daemon=True).start()
            urls = {"console": service.url, "docs": f"{service.url}/docs", "runs": runs.url}
            result["first_paint_ms"] = {name: first_paint(browser, url) for name, url in urls.items()}
            result["an_hour_of_events"] = an_hour(browser, service.url)
            runs.shutdown()
        browser.close()
    with harness_service("watched_service") as url:
        result["event_loop_with_ten_pages"] = asyncio.run(with_pages(url))
    print(json.dumps(result, indent=2))
    (RESULTS / "pages.json").write_text(json.dumps(result, indent=2) + "\n")


def first_paint(browser: Browser, url: str) -> dict[str, float]:
    """Milliseconds from the navigation's start to the first text, in a new context each time."""
    found: list[float] = []
    for _ in range(LOADS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        while (painted := page.evaluate(PAINT)) is None:  # the pages' policy lets Playwright wait for no expression
            page.wait_for_timeout(20)
        found.append(painted)
        context.close()
    return {"median": round(median(found), 1), "worst": round(max(found), 1)}


def an_hour(browser: Browser, url: str) -> dict[str, Any]:
    """Memory of a console before and after an hour of events, once its curves are full."""
    context = browser.new_context()
    page = context.new_page()
    with_stream(page, url)
    state = pushed(page, first_event(url), FULL)
    before, began = memory_of(page), time.perf_counter()
    pushed(page, state, HOUR)
    seconds, after = time.perf_counter() - began, memory_of(page)
    context.close()
    keys = ("heap_mib", "nodes")
    return {
        "events": HOUR,
        "before": dict(zip(keys, before, strict=True)),
        "after": dict(zip(keys, after, strict=True)),
        "ms_an_event": round(1e3 * seconds / HOUR, 2),
    }


async def with_pages(url: str) -> dict[str, Any]:
    """How late the event loop is while ten pages follow it and two clients post."""
    body = json.dumps({"sets": [{"prompt": "so it goes " * 80, "responses": ["yes " * 100, "no " * 100]}] * 8})
    limits = httpx.Limits(max_connections=PAGES + CLIENTS + 2)
    events = 0

    async def follow(http: httpx.AsyncClient, until: float) -> None:
        nonlocal events
        async with http.stream("GET", "/v1/events") as reply:
            async for _ in reply.aiter_bytes():
                events += 1
                if time.monotonic() > until:
                    return

    async def post(http: httpx.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            (await http.post("/v1/likelihood", content=body)).raise_for_status()

    async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, limits=limits) as http:
        await http.post(RESET)
        until = time.monotonic() + SECONDS
        pages, clients = (follow(http, until) for _ in range(PAGES)), (post(http, until) for _ in range(CLIENTS))
        await asyncio.gather(*pages, *clients)
        values = (await http.post(VALUES)).json()
    return {"pages": PAGES, "events": events, **values}


if __name__ == "__main__":
    main()
