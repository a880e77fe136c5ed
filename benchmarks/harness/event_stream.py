"""An hour of the console's events in a page: a stream that a script feeds, in the place of the service's own."""

import json
from typing import Any

import httpx
from playwright.sync_api import Page

# Replaces the fetch of events. `push(state, count)` sends so many states, a second
# apart by their own clock, and returns the last.
STREAM = """
const real = window.fetch;
window.fetch = (url, options) => {
  if (!String(url).endsWith("v1/events")) return real(url, options);
  const body = new ReadableStream({ start: (controller) => { window.events = controller; } });
  return Promise.resolve(new Response(body));
};
window.push = (state, count) => {
  const encoder = new TextEncoder();
  for (let k = 0; k < count; k++) {
    state.uptime_seconds += 1;
    state.tokens_scored += 100 + (k % 7);
    window.events.enqueue(encoder.encode(`data: ${JSON.stringify(state)}\\n\\n`));
  }
  return state;
};
"""


def with_stream(page: Page, url: str) -> None:
    """Open the console at ``url`` with ``STREAM``, until it has asked for events."""
    page.add_init_script(STREAM)
    page.goto(url)
    while not page.evaluate("Boolean(window.events)"):  # the page's policy lets Playwright wait for no expression
        page.wait_for_timeout(20)


def first_event(url: str, **headers: str) -> dict[str, Any]:
    """The state that the service at ``url`` shows now."""
    with httpx.stream("GET", f"{url}/v1/events", headers=headers, timeout=60) as reply:
        return next(json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: "))


def pushed(page: Page, state: dict[str, Any], count: int) -> dict[str, Any]:
    """Send ``count`` events to a page with ``STREAM``, and wait until it shows the last; the state after it."""
    for _ in range(0, count, 300):
        state = page.evaluate("([state, count]) => push(state, count)", [state, min(300, count)])
        shown = f"{state['tokens_scored']:,}"
        page.locator("#facts").get_by_text(shown, exact=True).wait_for()
    return state


def memory_of(page: Page) -> tuple[float, int]:
    """The page's heap in MiB after a collection, and its DOM nodes."""
    session = page.context.new_cdp_session(page)
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
    nodes = session.send("Memory.getDOMCounters")["nodes"]
    session.detach()
    return heap, nodes
