"""The report in a real browser: everything is drawn, nothing fails, nothing leaves the page, no text becomes code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from pad_student.evaluation.report.charts import CHARTS
from pad_student.evaluation.report.collect import collect
from pad_student.evaluation.report.page import build
from support.fake_run import fake_run

HOSTILE = "</script></div><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>\"&amp;"

COLOURED_PIXELS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let coloured = 0;  // axes and letters are grey
  for (let i = 0; i < data.length; i += 4) {
    const [low, high] = [Math.min(data[i], data[i + 1], data[i + 2]), Math.max(data[i], data[i + 1], data[i + 2])];
    coloured += data[i + 3] > 128 && high - low > 60;
  }
  return coloured;
}"""

ATTACKS = """async () => {
  const violated = [];
  document.addEventListener("securitypolicyviolation", event => violated.push(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.ran = 1";
  document.body.append(script);
  const image = document.createElement("img");
  image.src = "http://127.0.0.1:9/image";
  document.body.append(image);
  document.body.setAttribute("style", "opacity: 0");
  const fetched = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
  await new Promise(done => setTimeout(done, 100));
  return { violated, fetched };
}"""


class Opened:
    """A page with what it asked the network for and what it complained of."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.asked: list[str] = []  # also what the policy stopped
        self.left: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.route("http**/**", self._stop)
        self.page.goto(file.as_uri())

    def _stop(self, route: Route) -> None:
        self.left.append(route.request.url)
        route.abort()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(build(collect(fake_run(tmp_path / "run", HOSTILE, prompt=HOSTILE))), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    opened = Opened(browser, report, **getattr(request, "param", {}))
    yield opened
    opened.context.close()


@pytest.mark.parametrize(
    "opened",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 400, "height": 800}}],
    indirect=True,
    ids=["light", "dark", "narrow"],
)
def test_every_chart_is_drawn_without_a_complaint_or_a_request(opened: Opened, report: Path) -> None:
    canvases = opened.page.locator("canvas").all()
    assert len(canvases) == len(CHARTS)
    assert all(canvas.evaluate(COLOURED_PIXELS) > 50 for canvas in canvases)
    assert opened.complaints == []
    assert opened.asked == [report.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("opened", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_legends_show_the_last_values_when_nobody_points(opened: Opened) -> None:
    legend = opened.page.locator(".u-legend").nth(1)
    opened.page.wait_for_timeout(300)
    assert "0.7" in legend.inner_text()
    opened.page.locator(".u-over").nth(1).hover()
    opened.page.mouse.move(1, 1)
    opened.page.wait_for_timeout(300)
    assert "0.7" in legend.inner_text()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_charts_are_drawn_again_when_the_screen_turns_dark(opened: Opened) -> None:
    def ground() -> str:
        return opened.page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    opened.page.emulate_media(color_scheme="dark")
    assert ground() != light
    assert opened.page.locator("canvas").count() == len(CHARTS)
    assert opened.page.locator("canvas").first.evaluate(COLOURED_PIXELS) > 50


def test_hostile_texts_are_shown_as_they_are_and_never_run(opened: Opened) -> None:
    assert opened.page.locator("summary .text").first.text_content() == HOSTILE
    assert opened.page.locator("ol .text").first.text_content() == HOSTILE
    assert opened.page.locator("main script, main img").count() == 0
    assert opened.page.evaluate("window.ran") is None


def test_the_policy_stops_foreign_scripts_images_and_requests(opened: Opened) -> None:
    tried = opened.page.evaluate(ATTACKS)
    stopped = {directive.removesuffix("-elem").removesuffix("-attr") for directive in tried["violated"]}
    assert stopped == {"script-src", "img-src", "style-src", "connect-src"}
    assert tried["fetched"] is False
    assert opened.page.evaluate("window.ran") is None
    assert opened.left == []


@pytest.mark.parametrize("opened", [{"java_script_enabled": False}], indirect=True)
def test_figures_and_samples_can_be_read_without_scripts(opened: Opened) -> None:
    text = opened.page.inner_text("body")
    assert "The curves need JavaScript" in text
    for said in ("agreement/pairwise", "Samples before", "Student after", "A > B", "f00d", "rose from"):
        assert said in text
