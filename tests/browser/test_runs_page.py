"""The page of runs in a real browser: runs over each other, live, zoomed, and with texts of any kind."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from pad_student.evaluation.live.folder import RunFolder
from pad_student.evaluation.live.server import RunsServer
from support.fake_run import STEPS, answered, fake_run, metrics
from support.watched_page import WatchedPage

HOSTILE = "</script></div><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>\"&amp;"
LONG = "w" * 10_000
RIGHT_TO_LEFT = "שלום"
LOSS = "figure[data-curve=loss]"

# Of the colours that the two runs have.
COLOURS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = { blue: 0, orange: 0 };
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 200) continue;
    seen.blue += data[i + 2] - data[i] > 80;
    seen.orange += data[i] - data[i + 2] > 80;
  }
  return seen;
}"""


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[RunsServer]:
    with RunsServer(RunFolder(folder), "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Opened(WatchedPage):
    """The page of runs, once it has read them."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        super().__init__(browser, url, **options)
        expect(self.page.locator("#state")).to_contain_text("run")

    def table(self, figure: str = LOSS) -> list[list[str]]:
        """The lines of a chart's table, which is opened."""
        details = self.page.locator(f"{figure} details")
        if details.get_attribute("open") is None:
            details.locator("summary").click()
        lines = details.locator("tbody tr")
        expect(lines.first).to_be_visible()
        return [line.locator("th, td").all_inner_texts() for line in lines.all()]

    def last_row(self) -> Locator:
        return self.page.locator(f"{LOSS} details tbody tr").last


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    fake_run(folder / "one")
    other = fake_run(folder / "two")
    settings = json.loads((other / "settings.json").read_text())
    (other / "settings.json").write_text(json.dumps(settings | {"beta_student": 9.0}))
    write_metrics(other, [metrics(k) | {"loss": 2.0, "label_mass": 0.1} for k in range(1, STEPS + 1)])
    shown = answered("one two three", "why?", 0), answered("one two four", "why?", STEPS)
    (other / "shown.jsonl").write_text("".join(json.dumps(line) + "\n" for line in shown))
    return folder


@pytest.fixture
def opened(browser: Browser, runs: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    with served(runs) as server:
        opened = Opened(browser, server.url, **getattr(request, "param", {}))
        yield opened
        opened.context.close()


def write_metrics(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def append(run: Path, name: str, text: str) -> None:
    with (run / f"{name}.jsonl").open("a") as file:
        file.write(text)


SCREENS: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
    {"reduced_motion": "reduce", "viewport": {"width": 640, "height": 400}},  # as 1280 at 200 %
]


@pytest.mark.parametrize("opened", SCREENS, indirect=True, ids=["light", "dark phone", "200 %"])
def test_two_runs_are_drawn_over_each_other(opened: Opened) -> None:
    opened.page.locator(LOSS).scroll_into_view_if_needed()
    canvas = opened.page.locator(f"{LOSS} canvas")
    expect(canvas).to_be_visible()
    opened.page.wait_for_timeout(300)
    seen = canvas.evaluate(COLOURS)
    assert min(seen.values()) > 50
    legend = opened.page.locator(f"{LOSS} .u-legend")
    assert {"one", "two"} <= set(legend.locator(".u-series:not(.raw) .u-label").all_inner_texts())
    for figure in opened.page.locator("figure").all():
        figure.scroll_into_view_if_needed()
        expect(figure.locator("canvas")).to_be_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.complaints == []
    assert all(url.startswith(opened.page.url) for url in opened.asked)


def test_the_table_has_the_means_or_the_recorded_values(opened: Opened) -> None:
    expect(opened.page.locator(LOSS)).to_be_attached()
    opened.page.select_option("#window", "5")
    means = [sum(1 / k for k in range(max(1, step - 4), step + 1)) / min(step, 5) for step in range(1, STEPS + 1)]
    heads = opened.page.locator(f"{LOSS} details th[scope=col]")
    rows = opened.table()
    assert heads.all_inner_texts() == ["step", "two", "one"]
    assert [row[0] for row in rows] == [str(step) for step in range(1, STEPS + 1)]
    assert [float(row[2]) for row in rows] == pytest.approx(means, rel=5e-4)
    opened.page.select_option("#window", "1")
    assert [float(row[2]) for row in opened.table()] == pytest.approx([1 / k for k in range(1, 21)], rel=5e-4)
    assert {row[1] for row in opened.table()} == {"2"}


def test_the_axis_is_steps_hours_or_teacher_tokens(opened: Opened, runs: Path) -> None:
    opened.table()
    expect(opened.last_row().locator("th")).to_have_text("20")
    opened.page.check("input[value=teacher_tokens]")
    expect(opened.last_row().locator("th")).to_have_text("2000")
    opened.page.check("input[value=hours]")
    expect(opened.last_row().locator("th")).to_have_text("0.02222")  # 20 steps of 4 s
    (runs / "two" / "costs.jsonl").unlink()
    expect(opened.page.locator("#lacking")).to_contain_text("did not record: two.")
    expect(opened.page.locator(f"{LOSS} details th[scope=col]")).to_have_text(["hours", "one"])


def test_dragging_zooms_and_a_double_click_resets(opened: Opened) -> None:
    over = opened.page.locator(f"{LOSS} .u-over")
    over.scroll_into_view_if_needed()
    ticks = axis_labels(opened.page)
    box = over.bounding_box()
    assert box
    opened.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 50, steps=4)
    opened.page.mouse.up()
    zoomed = axis_labels(opened.page)
    assert zoomed != ticks
    opened.page.mouse.move(1, 1)
    opened.page.wait_for_timeout(1500)  # further looks at the runs do not reset it
    assert axis_labels(opened.page) == zoomed
    over.dblclick()
    opened.page.mouse.move(1, 1)
    opened.page.wait_for_timeout(200)
    assert axis_labels(opened.page) == ticks


def axis_labels(page: Page) -> str:
    """The pixels of the numbers under the chart of the loss: they stand in a canvas."""
    page.wait_for_timeout(200)
    return page.locator(f"{LOSS} canvas").evaluate(
        "c => c.getContext('2d').getImageData(0, c.height - 32 * devicePixelRatio, c.width, 32).data.join()"
    )


def test_the_keyboard_reads_values_zooms_and_resets(opened: Opened) -> None:
    drawn = opened.page.locator(f"{LOSS} .drawn")
    drawn.focus()
    note = opened.page.locator(f"{LOSS} .note")
    opened.page.select_option("#window", "1")
    drawn.focus()
    opened.page.keyboard.press("Home")
    expect(note).to_have_text("step 1; two 2; one 1")
    opened.page.keyboard.press("ArrowRight")
    expect(note).to_have_text("step 2; two 2; one 0.5")
    opened.page.keyboard.press("End")
    expect(note).to_have_text("step 20; two 2; one 0.05")
    ticks = axis_labels(opened.page)
    opened.page.keyboard.press("+")
    assert axis_labels(opened.page) != ticks
    opened.page.keyboard.press("Escape")
    assert axis_labels(opened.page) == ticks


def test_a_warning_is_a_mark_that_tells_its_text(opened: Opened) -> None:
    opened.page.locator("figure[data-curve=label_mass]").scroll_into_view_if_needed()
    over = opened.page.locator("figure[data-curve=label_mass] .u-over")
    expect(over).to_be_visible()
    box = over.bounding_box()
    assert box
    for y in range(4, int(box["height"]), 8):  # along the right edge, at the last step
        opened.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + y)
        opened.page.wait_for_timeout(20)
        if text := opened.page.locator("figure[data-curve=label_mass] .note").inner_text():
            assert text.startswith("two, step 20: The teacher puts only 10%")
            return
    raise AssertionError("no mark was found")


def test_a_run_grows_while_it_is_looked_at(opened: Opened, runs: Path) -> None:
    opened.table()
    expect(opened.last_row()).to_contain_text("20")
    line = json.dumps(metrics(STEPS + 1) | {"loss": 0.7})
    append(runs / "one", "metrics", line[:30])
    opened.page.wait_for_timeout(1500)
    expect(opened.last_row().locator("th")).to_have_text("20")
    append(runs / "one", "metrics", line[30:] + "\n")
    expect(opened.last_row().locator("th")).to_have_text("21")
    expect(opened.page.locator("#runs")).to_contain_text("21 of 20")
    fake_run(runs / "new" / "three")
    expect(opened.page.locator("#state")).to_have_text("3 runs, 3 shown.")
    expect(opened.page.locator(f"{LOSS} details th[scope=col]")).to_have_count(4)
    assert opened.complaints == []


@contextmanager
def command(folder: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``pad-student report --serve`` as a process, and its address."""
    line = [sys.executable, "-m", "pad_student", "report", "--serve", str(folder), "--port", str(port)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = process.stderr.readline()
        try:
            yield said.split(": ")[0], process
        finally:
            process.kill()


def test_a_server_that_dies_and_comes_back_is_watched_again(browser: Browser, runs: Path) -> None:
    with command(runs) as (url, process):
        opened = Opened(browser, url)
        opened.table()
        process.kill()
        expect(opened.page.locator("#state")).to_contain_text("The server does not answer")
    expect(opened.page.locator("#page")).to_have_class("old")
    append(runs / "one", "metrics", json.dumps(metrics(STEPS + 1)) + "\n")
    with command(runs, int(url.rpartition(":")[2].rstrip("/"))) as (_, process):
        expect(opened.page.locator("#state")).to_have_text("2 runs, 2 shown.", timeout=20_000)
        expect(opened.last_row().locator("th")).to_have_text("21")
        expect(opened.page.locator("#page")).not_to_have_class("old")
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert process.stderr.read() == "pad-student: the page of runs is no longer served\n"
        assert process.wait(10) == 130
    opened.context.close()


def test_runs_are_chosen_and_keep_their_colour(opened: Opened) -> None:
    opened.table()
    colour = opened.page.locator("#runs tr").last.locator(".swatch").get_attribute("style")
    opened.page.locator("#runs input").first.uncheck()
    expect(opened.page.locator(f"{LOSS} details th[scope=col]")).to_have_text(["step", "one"])
    expect(opened.page.locator("#settings")).to_be_hidden()
    assert opened.page.locator("#runs tr").last.locator(".swatch").get_attribute("style") == colour
    opened.page.click("#none")
    expect(opened.page.locator("figure")).to_have_count(0)
    opened.page.click("#all")
    expect(opened.page.locator(f"{LOSS} canvas")).to_be_attached()


def test_settings_that_differ_are_shown_and_no_others(opened: Opened) -> None:
    lines = opened.page.locator("#settings-table tbody tr")
    expect(lines).to_have_count(1)
    assert lines.first.locator("th, td").all_inner_texts() == ["beta_student", "9.0", "2.0"]


def test_samples_stand_side_by_side_with_changes_marked(opened: Opened) -> None:
    sample = opened.page.locator("#samples-list details").first
    expect(sample.locator("h4")).to_have_text(["Before", "After"])
    expect(sample.locator(".text")).to_have_text(["why?", "one two three", "no", "one two four", "no"])
    expect(sample.locator("mark")).to_have_text(["three", "four"])


def test_a_folder_without_runs_waits_for_the_first(browser: Browser, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        opened = Opened(browser, server.url)
        expect(opened.page.locator("#state")).to_contain_text("No run is here yet.")
        fake_run(tmp_path / "first", leave_out=("metrics", "costs", "shown", "evaluations"))
        expect(opened.page.locator("#runs")).to_contain_text("0 of 20")
        (fake_run(tmp_path / "bad") / "metrics.jsonl").write_text("no\nno\n")
        expect(opened.page.locator("#runs .problem")).to_contain_text("not JSON")
        assert opened.complaints == []
        opened.context.close()


@pytest.mark.parametrize("text", [HOSTILE, LONG, RIGHT_TO_LEFT], ids=["markup", "long", "right to left"])
def test_texts_of_any_kind_are_shown_as_they_are(browser: Browser, tmp_path: Path, text: str) -> None:
    name = text[:40].replace("/", "\\")
    fake_run(tmp_path / name, text, prompt=[{"role": "user", "content": text}])
    fake_run(tmp_path / "other")
    with served(tmp_path) as server:
        opened = Opened(browser, server.url, viewport={"width": 390, "height": 844})
        opened.page.locator("#samples-list details summary").first.wait_for()
        prompts = opened.page.locator("#samples-list summary .text").all_text_contents()
        assert f"user: {text}" in prompts
        assert text in opened.page.locator("#samples-list li .text").all_text_contents()
        assert name in opened.page.locator("#runs bdi").all_text_contents()
        assert opened.page.locator("main script, main img").count() == 0
        assert opened.page.evaluate("window.ran") is None
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.complaints == []
        opened.context.close()
