"""The console and ``/docs`` in a real browser, against a real service."""

import json
import math
import shlex
from collections.abc import Iterator
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from pad_teacher.admission.keys import add_key
from support.processes import TeacherProcess, teacher_process
from support.watched_page import WatchedPage

HOSTILE = "</textarea><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>&amp;"
LONG = "w" * 10_000
RIGHT_TO_LEFT = "שלום"


class Opened(WatchedPage):
    """A page of the service."""

    def score(self, prompt: str, *responses: str) -> dict[str, Any]:
        """Score a set by the form; the reply's set."""
        page = self.page
        page.fill("#prompt", prompt)
        while page.locator(".response").count() > len(responses):
            page.locator(".response button").last.click()
        while page.locator(".response").count() < len(responses):
            page.click("#add")
        for k, text in enumerate(responses):
            page.fill(f"#response-{k}", text)
        with page.expect_response("**/v1/score") as waited:
            page.click("#score")
        expect(page.locator("#score")).to_be_enabled()
        return waited.value.json()["sets"][0]

    def cells(self, row: str) -> list[list[str]]:
        return [
            [each.strip() for each in line.locator("td").all_inner_texts()] for line in self.page.locator(row).all()
        ]

    def slide(self, name: str, value: float) -> None:
        self.page.locator(f"#{name}").fill(str(value))


@pytest.fixture
def opened(browser: Browser, shared_teacher: TeacherProcess, request: pytest.FixtureRequest) -> Iterator[Opened]:
    opened = Opened(browser, shared_teacher.url, **getattr(request, "param", {}))
    yield opened
    opened.context.close()


@pytest.fixture
def locked(browser: Browser, tiny_directory: Path, tmp_path: Path) -> Iterator[tuple[Opened, str, TeacherProcess]]:
    """A page of a service with keys, its key, and the service."""
    key = add_key(tmp_path / "keys", "ada")
    with teacher_process(tiny_directory, tmp_path / "log", "--keys", str(tmp_path / "keys")) as teacher:
        teacher.wait_until_ready()
        opened = Opened(browser, teacher.url)
        yield opened, key, teacher
        opened.context.close()


SCREENS: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}},
    {"reduced_motion": "reduce", "viewport": {"width": 640, "height": 400}},  # as 1280 at 200 %
]


@pytest.mark.parametrize("opened", SCREENS, indirect=True, ids=["light", "dark phone", "200 %"])
def test_every_part_is_shown_without_a_complaint(opened: Opened, shared_teacher: TeacherProcess) -> None:
    expect(opened.page.locator("#state")).to_have_text("Ready.")
    opened.score("hi", "yes", "no", "yes")
    expect(opened.page.locator("#rankings tr")).to_have_count(6)
    expect(opened.page.locator("#scored small")).to_have_text(" a copy of A")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.page.click("nav >> text=API")
    expect(opened.page.locator("h1")).to_contain_text("HTTP API")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.complaints == []
    assert all(url.startswith(shared_teacher.url) for url in opened.asked)


def test_numbers_are_those_of_the_api(opened: Opened, shared_teacher: TeacherProcess) -> None:
    found = opened.score("hi", "yes", "no", "maybe")
    alpha = 0.8
    for cells, each in zip(opened.cells("#scored > tr"), found["responses"], strict=True):
        reward = (1 - alpha) * each["mean_log_likelihood"] + alpha * math.log(each["selection_probability"])
        shown = [each["mean_log_likelihood"], each["selection_probability"], reward]
        assert cells[-4:] == [str(each["tokens"]), *(f"{value:.4f}" for value in shown)]
    for cells, answer in zip(opened.cells("#matrix tbody tr"), found["per_order"], strict=True):
        by_response = [answer["probabilities"][answer["order"].index([k])] for k in range(3)]
        assert cells == [f"{value:.4f}" for value in (*by_response, answer["label_mass"])]
    means, letters = opened.cells("#matrix tfoot tr")
    assert means[:3] == [f"{each['selection_probability']:.4f}" for each in found["responses"]]
    assert letters[:3] == [
        f"{sum(each['probabilities'][k] for each in found['per_order']) / 3:.4f}" for k in range(3)
    ]
    tokens = opened.page.locator("#scored .token").all_text_contents()
    assert tokens == [text for each in found["responses"] for text in each["token_texts"]]
    usage = shared_teacher.http.get("/v1/usage").json()["jobs"]
    total = next(job["total_tokens"] for job in usage if job["job"] == "console")
    expect(opened.page.locator("#jobs tr", has_text="console")).to_contain_text(f"{total:,}")


@pytest.mark.parametrize("n", [2, 4, 6])
def test_rankings_are_plackett_luce_to_a_billionth(opened: Opened, n: int) -> None:
    found = opened.score("hi", *["yes", "no", "maybe", "perhaps", "never", "yes"][:n])
    for alpha, beta in ((0.3, 7.5), (0, 50), (1, 2)):
        opened.slide("alpha", alpha)
        opened.slide("beta-teacher", beta)
        scores = [
            beta * ((1 - alpha) * each["mean_log_likelihood"] + alpha * math.log(each["selection_probability"]))
            for each in found["responses"]
        ]
        expected = sorted((log_prob(scores, ranking) for ranking in permutations(range(n))), reverse=True)
        rows = opened.page.locator("#rankings tr")
        shown = [float(value) for value in rows.evaluate_all("rows => rows.map(row => row.dataset.logProb)")]
        assert len(shown) == (math.factorial(n) if n <= 4 else 10)
        assert shown == pytest.approx(expected[: len(shown)], abs=1e-9, rel=0)


def log_prob(scores: list[float], ranking: tuple[int, ...]) -> float:
    """Plackett-Luce in float64: the sum of score less log-sum-exp over those that are left."""
    ordered = [scores[k] for k in ranking]
    total = 0.0
    for k, value in enumerate(ordered):
        largest = max(ordered[k:])
        total += value - largest - math.log(math.fsum(math.exp(each - largest) for each in ordered[k:]))
    return total


def test_copies_share_a_column_of_their_own_letter(opened: Opened) -> None:
    found = opened.score("hi", "yes", "no", "yes")
    assert opened.page.locator("#matrix tbody th").all_inner_texts() == ["A=C B", "B A=C"]
    for cells, answer in zip(opened.cells("#matrix tbody tr"), found["per_order"], strict=True):
        yes, no = (answer["probabilities"][answer["order"].index(place)] for place in ([0, 2], [1]))
        assert cells == [f"{value:.4f}" for value in (yes, no, yes, answer["label_mass"])]
    assert opened.cells("#matrix tfoot tr")[1][2] == "–", "no question has a third letter"


def test_a_set_of_one_text_is_shown_as_not_asked(opened: Opened) -> None:
    found = opened.score("hi", "yes", "yes")
    assert "label_mass" not in found
    expect(opened.page.locator("#matrix-words")).to_contain_text("was not asked")
    means, letters = opened.cells("#matrix tfoot tr")
    assert (means, letters) == (["1.0000", "1.0000", "–"], ["–", "–", ""])
    for row in opened.cells("#rankings tr"):
        assert row == ["50.0 %"]
    assert "NaN" not in opened.page.locator("#result").inner_text()
    assert opened.complaints == []


def test_a_second_reply_is_compared_by_its_divergence(opened: Opened) -> None:
    found = opened.score("hi", "yes", "no", "maybe")
    opened.page.click("text=Compare with another service")
    opened.page.fill("#other", json.dumps({"sets": [{"responses": [{"mean_log_likelihood": 1}]}]}))
    expect(opened.page.locator("#divergence")).to_have_text("This is no reply about the same responses.")
    theirs = [-0.5, -0.25, -1.0]
    opened.page.fill("#other", json.dumps({"sets": [{"responses": [{"mean_log_likelihood": v} for v in theirs]}]}))
    opened.slide("beta-student", 3)
    ours = [
        10 * (0.2 * each["mean_log_likelihood"] + 0.8 * math.log(each["selection_probability"]))
        for each in found["responses"]
    ]
    both = [
        [math.exp(log_prob(scores, ranking)) for ranking in permutations(range(3))]
        for scores in (ours, [3 * value for value in theirs])
    ]
    jsd = sum(p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q)) for p, q in zip(*both, strict=True)) / 2
    expect(opened.page.locator("#divergence")).to_contain_text(f"{jsd:.4f} nats")
    assert all(url.startswith(opened.page.url.partition("#")[0]) for url in opened.asked)


def test_a_divergence_goes_with_the_rewards_that_it_was_of(opened: Opened) -> None:
    opened.page.route("**/v1/score", lambda route: route.fulfill(json=echoed(route.request.post_data_json, 0.0)))
    opened.score("hi", "yes", "no")
    opened.slide("alpha", 0)
    opened.page.click("text=Compare with another service")
    opened.page.fill("#other", json.dumps({"sets": [{"responses": [{"mean_log_likelihood": -1}] * 2}]}))
    expect(opened.page.locator("#divergence")).to_contain_text("nats")
    opened.slide("alpha", 0.5)
    expect(opened.page.locator("#divergence")).to_have_text("Without rewards there is no divergence.")
    opened.slide("alpha", 0)
    expect(opened.page.locator("#divergence")).to_contain_text("nats")


def test_a_response_that_is_not_finished_stays_so(opened: Opened, browser: Browser) -> None:
    opened.page.click("text=Paste a line")
    cut = {"text": "no", "finished": False}
    opened.page.fill("#line", json.dumps({"prompt": "p", "responses": [{"text": "yes"}, cut]}))
    opened.page.click("#take")
    with opened.page.expect_response("**/v1/score") as waited:
        opened.page.click("#score")
    assert (waited.value.request.post_data_json or {})["sets"][0]["responses"] == ["yes", cut]
    assert [len(each["token_texts"]) for each in waited.value.json()["sets"][0]["responses"]][1] == 2
    expect(opened.page.locator("#scored small")).to_have_text(" not finished")
    linked = Opened(browser, opened.page.locator("#link").evaluate("link => link.href"))
    states = linked.page.locator(".response input").evaluate_all("boxes => boxes.map(box => box.checked)")
    assert states == [True, False]
    linked.context.close()


def test_a_stream_that_falls_silent_is_not_shown_as_ready(browser: Browser, shared_teacher: TeacherProcess) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    page.goto(shared_teacher.url)
    expect(page.locator("#state")).to_have_text("Ready.")
    page.route("**/v1/events", lambda route: route.fulfill(status=502, body="<html>bad gateway</html>"))
    page.reload()
    expect(page.locator("#state")).to_have_text("The service does not answer (status 502). Trying again.")
    page.unroute("**/v1/events")
    page.route("**/v1/events", lambda _: None)  # never answered
    page.reload()
    page.clock.run_for(16_000)
    expect(page.locator("#state")).to_have_text("The service does not answer (silent for 15 s). Trying again.")
    expect(page.locator("#now")).to_have_class("old")
    page.unroute("**/v1/events")
    page.clock.run_for(2_000)
    expect(page.locator("#state")).to_have_text("Ready.")
    expect(page.locator("#now")).to_have_class("")
    context.close()


@pytest.mark.parametrize("opened", SCREENS, indirect=True, ids=["light", "dark phone", "200 %"])
def test_no_part_of_a_response_covers_another(opened: Opened) -> None:
    row = opened.page.locator(".response").first
    places = [part.bounding_box() or {} for part in row.locator("textarea, label.finished, button").all()]
    assert all(left["x"] + left["width"] <= right["x"] for left, right in pairwise(places))
    assert row.locator("label.finished").evaluate("label => label.scrollWidth <= label.clientWidth + 1")


def test_markup_and_odd_texts_are_shown_as_texts(opened: Opened) -> None:
    """The reply is made up: no tiny teacher has room for such texts."""
    opened.page.route("**/v1/score", lambda route: route.fulfill(json=echoed(route.request.post_data_json)))
    opened.score(HOSTILE, HOSTILE, LONG, RIGHT_TO_LEFT)
    assert opened.page.locator("#scored .text").all_text_contents() == [HOSTILE, LONG, RIGHT_TO_LEFT]
    assert opened.page.locator("main script, main img").count() == 0
    assert opened.page.evaluate("window.ran") is None
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.complaints == []


def echoed(asked: Any, share: float | None = None) -> dict[str, Any]:
    """A reply in which each response is one token, and all have the same ``share``."""
    texts = asked["sets"][0]["responses"]
    share = 1 / len(texts) if share is None else share
    number = {
        "tokens": 1,
        "mean_log_likelihood": -1.0,
        "token_log_likelihoods": [-1.0],
        "selection_probability": share,
    }
    orders = [{"order": [[k] for k in range(len(texts))], "probabilities": [share] * len(texts), "label_mass": 1.0}]
    responses = [number | {"token_texts": [text]} for text in texts]
    return {"sets": [{"responses": responses, "label_mass": 1.0, "per_order": orders}]}


def test_a_link_carries_the_set_and_code_makes_the_same_call(opened: Opened, browser: Browser) -> None:
    opened.score('a "quoted" prompt', "it's", "é ☃")
    url = opened.page.locator("#link").evaluate("link => link.href")
    linked = Opened(browser, url)
    assert linked.page.input_value("#prompt") == 'a "quoted" prompt'
    assert linked.page.input_value("#response-1") == "é ☃"
    linked.context.close()
    command = shlex.split(opened.page.locator("#curl").inner_text())
    assert json.loads(command[-1])["sets"] == [{"prompt": 'a "quoted" prompt', "responses": ["it's", "é ☃"]}]
    assert command[2].endswith("/v1/score")
    compile(opened.page.locator("#python").inner_text(), "shown", "exec")


def test_a_line_of_a_file_is_taken_or_refused_with_a_reason(opened: Opened) -> None:
    opened.page.click("text=Paste a line")
    opened.page.fill("#line", json.dumps({"id": "a", "prompt": "p", "responses": [{"text": "x"}, "y", "z"]}))
    opened.page.click("#take")
    assert [each.input_value() for each in opened.page.locator(".response textarea").all()] == ["x", "y", "z"]
    opened.page.fill("#line", '{"prompt": "p"}')
    opened.page.click("#take")
    expect(opened.page.locator("#problem")).to_contain_text("a list of responses")


def test_a_refusal_is_shown_in_the_services_words(opened: Opened) -> None:
    opened.page.fill("#prompt", "")
    opened.page.click("#score")
    expect(opened.page.locator("#problem")).to_contain_text("sets[0].prompt")


def test_without_a_key_nothing_is_shown_but_the_question(locked: tuple[Opened, str, TeacherProcess]) -> None:
    opened, key, _ = locked
    page = opened.page
    expect(page.locator("#asking")).to_be_visible()
    expect(page.locator("#open")).to_be_hidden()
    assert opened.complaints == []
    page.keyboard.type("pad_wrong")  # the field has the focus
    page.keyboard.press("Enter")
    expect(page.locator("#key-problem")).to_have_text("The service does not know this key.")
    for wrong in ("pad_clé", "pad_☃", "pad a"):
        page.fill("#key", wrong)
        page.keyboard.press("Enter")
        expect(page.locator("#key-problem")).to_contain_text("This is no key")
    expect(page.locator("#open")).to_be_hidden()
    page.fill("#key", key)
    page.keyboard.press("Enter")
    expect(page.locator("#facts")).to_contain_text("ada")
    opened.score("hi", "yes", "no")
    html = page.content() + page.locator("#link").evaluate("link => link.href")
    stored = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert key not in html + stored
    page.reload()
    expect(page.locator("#asking")).to_be_visible()


def test_a_service_that_dies_and_comes_back_is_watched_again(
    browser: Browser, tiny_directory: Path, tmp_path: Path
) -> None:
    with teacher_process(tiny_directory, tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        opened = Opened(browser, teacher.url)
        expect(opened.page.locator("#state")).to_have_text("Ready.")
    expect(opened.page.locator("#state")).to_contain_text("Trying again")
    port = teacher.url.rpartition(":")[2]
    with teacher_process(tiny_directory, tmp_path / "log2", "--port", port) as again:
        again.wait_until_ready()
        expect(opened.page.locator("#state")).to_have_text("Ready.", timeout=30_000)
        assert again.stop() == 0  # a page that watches does not hold the drain up
    opened.context.close()
