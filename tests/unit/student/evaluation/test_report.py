"""A run becomes one page that tells what is there, says what is not, and takes every text for text."""

import json
import re
import zipfile
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import pad_pages
from pad_student.commands.cli import main
from pad_student.errors import ReportError
from pad_student.evaluation.report.card import model_card
from pad_student.evaluation.report.charts import MOST_POINTS, charts, plots
from pad_student.evaluation.report.collect import collect
from pad_student.evaluation.report.page import build, duration, merged
from pad_student.evaluation.report.preferences import letter, preferences
from pad_student.evaluation.report.words import findings
from pad_student.training.run_logs import command_line
from support.fake_run import STEPS, fake_run, metrics
from support.paths import ROOT

VOID = {"meta", "rect", "link", "br"}
# None that could be the name of a setting: the made-up run has a setting of that name too, and then one row less.
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.isidentifier())


class Structure(HTMLParser):
    """The page's tags in order, and the text of every element of class ``text``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.data = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(f"<{tag}{sorted(name for name, _ in attrs)}>")
        if tag not in VOID:
            self._open.append("text" if dict(attrs).get("class") == "text" else dict(attrs).get("id") or tag)
            self.texts += [""] * (self._open[-1] == "text")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"</{tag}>")
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "text":
            self.texts[-1] += data
        if self._open and self._open[-1] == "data":
            self.data += data


@pytest.fixture(scope="module")
def plain_tags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return structure_with(tmp_path_factory.mktemp("plain") / "run", "x", "b").tags


def structure_with(folder: Path, text: str, metric: str) -> Structure:
    run = fake_run(folder, text, prompt=[{"role": "user", "content": text}])
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**metrics(STEPS + 1), f"a/{metric}": 1.0}) + "\n")
    return Structure(page(run))


def page(folder: Path) -> str:
    return build(collect(folder))


def as_shown(text: str) -> str:
    return "".join(chr(0x2400 + ord(c)) if c < " " and c not in "\t\n" else c for c in text.replace("\r\n", "\n"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, metric=TEXTS)
@example(text="</script><img src=x onerror=alert(1)>", metric="</script><!--<script>")
@example(text="]]>{{ 7 * 7 }}{% raw %}<!--\x00\r\n", metric="__proto__")
def test_no_text_changes_the_page_and_all_is_read_back(
    tmp_path: Path, plain_tags: list[str], text: str, metric: str
) -> None:
    """Texts of prompts, responses and names of metrics."""
    folders = (tmp_path / str(k) for k in count())
    folder = next(each for each in folders if not each.exists())
    found = structure_with(folder, text, metric)
    assert found.tags == plain_tags
    assert found.texts == [f"user: {as_shown(text)}", as_shown(text), "no", *[as_shown(text), "no"] * 2]
    names = [series["name"] for plot in json.loads(found.data) for series in plot["series"]]
    assert metric.rpartition("/")[2].replace("_", " ") in names


def test_a_whole_run_has_every_chart_and_nothing_missing(tmp_path: Path) -> None:
    run = collect(fake_run(tmp_path))
    drawn = plots(run, charts(run))
    assert [plot["title"] for plot in drawn] == [chart.title for chart in charts(run)]
    assert all(len(series["values"]) == STEPS for plot in drawn for series in plot["series"])
    assert "not recorded" not in build(run)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("costs", "Seconds by phase were not recorded"),
        ("shown", "No prompts were answered before and after training"),
        ("starts", "not recorded"),
        ("settings", "were not recorded: no teacher scored them"),
        ("metrics", "0 of 20 steps are recorded"),
    ],
)
def test_a_part_that_is_missing_is_said_in_words(tmp_path: Path, part: str, says: str) -> None:
    assert says in page(fake_run(tmp_path, leave_out=(part,)))


def test_an_unfinished_run_reports_missing_samples(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    (run / "shown.jsonl").write_text((run / "shown.jsonl").read_text().splitlines()[0] + "\n")
    written = page(run)
    assert "the run has not reached its last step" in written
    assert '<td class="absent">not recorded</td>' in written


def test_a_figure_that_was_not_finite_is_a_gap_and_never_zero(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[2]["loss"] = None
    del lines[3]["label_mass"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = collect(run).curves
    assert curves["loss"].values[2] is None
    assert curves["label_mass"].values[3] is None
    assert min(curves["label_mass"].known) == 0.95


def test_a_torn_last_line_is_ignored_and_a_bad_one_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')
    assert collect(run).steps[-1] == STEPS
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(ReportError, match=f"line {STEPS + 1}: not JSON"):
        collect(run)


def test_costs_count_what_was_done_twice_and_curves_show_it_once(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    with (run / "costs.jsonl").open("a") as file:
        file.write(json.dumps({"step": STEPS, "seconds/trained": 5.0, "teacher_tokens": 7}) + "\n")
    found = collect(run)
    assert found.costs["seconds/trained"] == STEPS + 5
    assert found.costs["teacher_tokens"] == 100 * STEPS + 7
    assert found.curves["seconds/trained"].values[-2:] == [1.0, 5.0]


@pytest.mark.parametrize(
    ("text", "says", "warns"),
    [("yes, and much more", "grew", True), ("yes", "kept", False), ("", "shrank", True)],
)
def test_length_is_always_spoken_of_and_growth_is_warned_of(
    tmp_path: Path, text: str, says: str, warns: bool
) -> None:
    run = fake_run(tmp_path)
    lines = [json.loads(line) for line in (run / "shown.jsonl").read_text().splitlines()]
    lines[1]["samples"][0]["text"] = text
    (run / "shown.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (said,) = (each for each in findings(collect(run)) if each.text.startswith("Samples"))
    assert (f" {says} " in said.text, said.warns) == (True, warns)
    nothing = fake_run(tmp_path / "other", leave_out=("metrics", "shown"))
    assert any("their length was not recorded" in each.text for each in findings(collect(nothing)))


@pytest.mark.parametrize(
    ("steps", "slope", "says"),
    [(19, 1.0, "too few to tell a trend"), (40, 0.002, "within its noise"), (40, 0.2, "trained on rose from")],
)
def test_a_trend_is_told_only_beyond_noise(tmp_path: Path, steps: int, slope: float, says: str) -> None:
    run = fake_run(tmp_path)
    noise = [0.3 if step % 3 else -0.6 for step in range(steps)]
    lines = [{"step": k + 1, "reward/teacher": slope * k + noise[k]} for k in range(steps)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (said,) = (each for each in findings(collect(run)) if each.text.startswith("The teacher's reward"))
    assert says in said.text


def test_a_collapsed_student_is_a_verdict_on_the_learning_rate(tmp_path: Path) -> None:
    run = fake_run(tmp_path, leave_out=("settings",))
    lines = [{"step": k + 1, "loss": 1 / (k + 1), "share/one_text": min(1.0, k / 5)} for k in range(20)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "settings.json").write_text(json.dumps({"learning_rate": 5.0}))
    said = findings(collect(run))
    verdict = next(each for each in said if "collapsed" in each.text)
    assert verdict.warns
    assert "than 5" in verdict.text
    assert not any(each.text.startswith("The loss fell") for each in said), "a trend would look like success"


def test_preferences_are_those_of_plackett_and_luce(tmp_path: Path) -> None:
    compared = preferences(collect(fake_run(tmp_path)).answered[0], beta_teacher=10, beta_student=2)
    assert compared is not None
    best = compared.responses[0]
    assert best.teacher == pytest.approx(0.98201, abs=1e-5)  # σ(10·0.4)
    assert best.before == pytest.approx(0.26894, abs=1e-5)  # σ(-2·0.5)
    assert compared.rankings[0].name == "A > B"
    assert compared.rankings[0].teacher == pytest.approx(best.teacher)
    assert compared.distance_before is not None
    assert compared.distance_after is not None
    assert compared.distance_after < compared.distance_before
    assert [letter(k) for k in (0, 25, 26, 51)] == ["A", "Z", "AA", "AZ"]


def test_a_long_run_has_no_more_points_than_a_screen(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    lines = [json.dumps({"step": k, "loss": 2.0, "loss/preference": 2.0}) for k in range(1, 9001)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = collect(run)
    for plot in plots(found, charts(found)):
        assert len(plot["steps"]) == len(plot["series"][0]["values"]) <= MOST_POINTS


def test_the_policy_allows_only_the_pages_own_scripts(tmp_path: Path) -> None:
    """It lets nothing out."""
    written = page(fake_run(tmp_path))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', written.replace("&#39;", "'"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]*\s(src|href|style|on\w+)=", written.partition("<body>")[2].partition("<script")[0])


def test_the_model_card_has_valid_metadata_and_the_runs_figures(tmp_path: Path) -> None:
    card = model_card(collect(fake_run(tmp_path, "a|b: `c`\n# d")), license="apache-2.0", tags="mine")
    read = ModelCard(str(card))
    assert (read.data.library_name, read.data.license) == ("transformers", "apache-2.0")
    assert read.data.tags is not None
    assert {"pad-service", "mine"} <= set(read.data.tags)
    assert "\n# d" not in read.text
    assert "2,000" in read.text
    named = model_card(collect(fake_run(tmp_path / "hub", "org/model"))).data
    assert named.base_model == "org/model"


def test_the_command_writes_the_page_or_names_a_bad_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert main(["report", str(run), "--out", str(tmp_path / "deep" / "x.html")]) == 0
    assert (run / "report.html").read_text() == (tmp_path / "deep" / "x.html").read_text()
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "holds no run" in capsys.readouterr().err.splitlines()[-1]


def test_the_wheel_holds_the_files_that_the_page_is_made_of(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    held = set(zipfile.ZipFile(wheel).namelist())
    evaluation = ROOT / "client" / "pad_student" / "evaluation"
    parts = {f"{each}/{path.name}" for each in ("report", "live") for path in (evaluation / each).glob("*.*")}
    assert {"report/page.html", "live/runs.html", "live/runs.js"} <= parts
    assert {f"pad_student/evaluation/{name}" for name in parts} <= held
    assert {f"pad_pages/{name}" for name in (*pad_pages.FILES, pad_pages.LICENCE)} <= held


def test_each_sides_seconds_are_shares_of_the_time_that_went_by(tmp_path: Path) -> None:
    run = collect(fake_run(tmp_path))
    assert run.wall_seconds == 4 * STEPS
    words = " ".join(re.sub("<[^>]*>", " ", build(run)).split())
    assert "student: waited for teacher 40 s 50.0 %" in words
    assert "teacher: scored 60 s 75.0 %" in words


def test_the_change_on_held_out_prompts_stands_first(tmp_path: Path) -> None:
    first = findings(collect(fake_run(tmp_path)))[0]
    assert first.text.startswith("On held-out prompts the teacher's reward of the student's answers rose: +0.200")
    assert "interval from +0.100 to +0.300" in first.text
    assert "wins 70% of the prompts" in first.text
    assert not first.warns
    without = findings(collect(fake_run(tmp_path / "without", leave_out=("evaluations",))))[0]
    assert "steps are recorded" in without.text


def test_copies_of_a_sample_are_shown_once_with_their_number() -> None:
    samples = [{"text": text, "finished": True} for text in ("a", "b", "a", "a")]
    shown = merged({"samples": samples, "samples_rewards_teacher": [1.0, 2.0, 1.5, 1.0]})
    assert [(sample["text"], reward, copies) for sample, reward, copies in shown] == [("a", 1.0, 3), ("b", 2.0, 1)]


def test_the_page_says_when_how_long_and_by_which_command(tmp_path: Path) -> None:
    page = build(collect(fake_run(tmp_path)))
    assert "2026-01-01 00:00 UTC" in page
    assert "1 min" in page
    assert "<code>pad-student distill yes</code>" in page
    assert [duration(seconds) for seconds in (0, 31, 7500)] == ["not recorded", "31 s", "2 h 5 min"]


def test_a_recorded_command_holds_no_secret() -> None:
    said = command_line(["/bin/pad-student", "distill", "--key", "sesame", "--hub-token=sesame", "--n", "4"])
    assert "sesame" not in said
    assert said.startswith("pad-student distill --key ")
    assert said.endswith("--n 4")


@pytest.mark.parametrize(("rule", "says"), [("skip", ["10.0% of the sets held one text"]), ("keep", [])])
def test_sets_of_one_text_that_were_left_out_are_told(tmp_path: Path, rule: str, says: list[str]) -> None:
    run = fake_run(tmp_path)
    (run / "settings.json").write_text(json.dumps({"one_text": rule}))
    told = [each.text for each in findings(collect(run)) if "held one text" in each.text]
    assert [text.split(",")[0] for text in told] == says
