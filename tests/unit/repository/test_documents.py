"""Documents: their links, and the measurements that they quote."""

import json
import re

import pytest
import yaml

from support.paths import ROOT

PACKAGES = {
    "pad_wire": "shared",
    "pad_torch": "shared",
    "pad_settings": "shared",
    "pad_pages": "shared",
    "pad_teacher": "server",
    "pad_student": "client",
}


def rooms(package: str) -> set[str]:
    """The names a newcomer sees in a package, but for the ones every package has."""
    base = ROOT / PACKAGES[package] / package
    found = {f"{path.name}/" if path.is_dir() else path.name for path in base.iterdir()}
    return {name for name in found if not name.startswith("__") and name != "py.typed"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_architecture_names_every_room(package: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text[text.index(f"## `{PACKAGES[package]}/{package}`") :].split("\n## ")[0]
    assert {name for name in re.findall(r"`([\w.]+/?)`", section) if name in rooms(package)} == rooms(package)


@pytest.mark.parametrize("package", ["pad_teacher", "pad_student"])
def test_a_package_shows_at_most_fourteen_names(package: str) -> None:
    base = ROOT / PACKAGES[package] / package
    assert len([path for path in base.iterdir() if path.name != "__pycache__"]) <= 14


def test_every_file_says_at_its_top_what_it_is_for() -> None:
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            assert path.read_text().startswith('"""'), path


DOCUMENTS = [
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"),
    *("examples/tinyworld/README.md", "examples/trl/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


def page(name: str) -> str:
    """A document's text as one line, so that a quotation may be broken anywhere."""
    return " ".join((ROOT / name).read_text().split())


def prose(name: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)


def anchors(document: str) -> set[str]:
    """The fragments that its headings can be linked by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for target, fragment in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", prose(name)):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked.read_text()), f"{target}#{fragment}"


def test_the_index_links_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#:]+)\)", index.read_text())}
    assert {path for path in (ROOT / "docs").rglob("*.md") if path != index} <= linked


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in ("CONTRIBUTING.md", "CHANGELOG.md")])
def test_no_document_has_a_line_that_is_too_long(name: str) -> None:
    """Tables and code are excepted."""
    assert not [line for line in prose(name).splitlines() if len(line) > 118 and not line.startswith("|")]


def test_verification_names_tests_that_are_there() -> None:
    for path in re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs" / "verification.md").read_text()):
        assert (ROOT / path).exists(), path


def test_the_gemma_settings_are_settings() -> None:
    from pad_student.commands.settings import DistillSettings
    from pad_student.commands.settings_loader import load

    settings = load(DistillSettings, "pad-student distill", [str(ROOT / "examples/gemma-2-9b-to-2b.yaml")])
    written = yaml.safe_load((ROOT / "examples/gemma-2-9b-to-2b.yaml").read_text())
    assert settings.learning_rate == written["learning_rate"] == 8e-7
    assert settings.trainer == {
        name: written[name]
        for name in (
            "per_device_train_batch_size",
            "lr_scheduler_type",
            "warmup_steps",
            "bf16",
            "gradient_checkpointing",
            "save_steps",
        )
    }


def test_the_readme_quotes_the_committed_measurements() -> None:
    seeds = json.loads((ROOT / "benchmarks" / "results" / "demo_seeds.json").read_text())
    grades = [f"{run['grade_before']:.3f} to {run['grade_after']:.3f}" for run in seeds["runs"]]
    text = page("README.md")
    assert "{}, {} and {}".format(*grades) in text
    assert f"+{seeds['smallest_gain']:.3f}; median {seeds['median_wall_seconds']:.0f} s" in text


def test_verification_quotes_how_fast_a_warm_cache_answers() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "cache.json").read_text())["rows"]
    text = page("docs/verification.md")
    for row in rows:
        assert f"{row['warm_seconds']:.3f} s instead of {row['engine_seconds']:.1f} s" in text
        assert row["times_faster_than_the_engine"] >= 50


def test_the_tiny_world_page_quotes_its_measurements() -> None:
    measured = json.loads((ROOT / "examples" / "tinyworld" / "measured.json").read_text())
    text = page("examples/tinyworld/README.md")
    likelihood, choice = (measured[f"pairs_ordered_by_{how}"]["all"] for how in ("likelihood", "multiple_choice"))
    student, teacher = (measured[f"{model}_grade_sampled"]["all"] for model in ("student", "teacher"))
    for quoted in (f"{likelihood:.1%}", f"{choice:.1%}", f"{measured['label_mass']:.3f}", f"{student:.3f}"):
        assert quoted in text
    assert likelihood >= 0.85
    assert choice >= 0.80
    assert measured["label_mass"] >= 0.95
    assert 0.35 <= student <= 0.6
    assert teacher >= student + 0.25


def test_the_signals_page_quotes_what_saving_costs_and_keeps() -> None:
    results = ROOT / "benchmarks" / "results"
    measured = json.loads((results / "teacher_tokens.json").read_text())
    once = json.loads((results / "demo_seeds.json").read_text())["runs"][0]
    full, saving = (measured["runs"][0][way] for way in ("full", "saving"))
    asked, text = measured["sets"]["orders_asked"], page("docs/guides/signals.md")
    ways = ((full, "full"), (once, "copies once"), (saving, "both"))
    for run, way in ways:
        grade = f"{run['grade_after']:.3f} ± {run['standard_error_after']:.3f}"
        assert f"| {run['teacher_tokens']:,} | {grade} | {asked[way]:.1f} |" in text
    share = 100 * saving["teacher_tokens"] / once["teacher_tokens"]
    assert f"took {share:.0f} % of the default's tokens" in text
    assert f"cosine of {measured['sets']['cosine_of_gradients']['both, copies once']:.3f}" in text
    assert f"{100 * measured['share_of_tokens']:.1f} % of the teacher tokens" in text
    gain = measured["grade"]
    assert f"by {gain['gain']:+.3f}, with a 95 % interval" in text
    assert f"from {gain['low']:+.3f} to {gain['high']:+.3f}" in text


def likelihood_rows(name: str) -> dict[str, dict[str, float]]:
    rows = json.loads((ROOT / "benchmarks" / "results" / name).read_text())["rows"]
    return {row["contender"]: row for row in rows if row["part"] == "likelihood"}


def test_the_performance_page_quotes_the_committed_measurements() -> None:
    text = page("docs/measurements/scoring.md")
    for row in likelihood_rows("scoring.json").values():
        assert f"| {row['seconds']:.2f} | {row['times_ours']:.2f} | {row['tokens_per_second']:.0f} |" in text
        assert f"| {row['share_of_floor']:.1%} | {row['share_of_fastest_floor']:.1%} |" in text
    long = likelihood_rows("scoring_long_prompt.json")
    assert f"{long['ours']['seconds']:.2f} s, plain transformers {long['plain']['seconds']:.2f}" in text
    assert f"{likelihood_rows('scoring_mixed.json')['ours']['seconds']:.1f} s in-process" in text
    for row in json.loads((ROOT / "benchmarks" / "results" / "growth.json").read_text())["rows"]:
        assert f"| {row['seconds']:.2f} | {row['predicted_seconds']:.2f} |" in text
    for errors in json.loads((ROOT / "benchmarks" / "results" / "rounding.json").read_text())["contenders"].values():
        assert f"| {errors['root_mean_square']:.2e} | {errors['largest']:.1e} |" in text


def test_the_families_on_the_verification_page_were_measured() -> None:
    text = page("docs/verification.md")
    rows = json.loads((ROOT / "benchmarks" / "results" / "families.json").read_text())["families"]
    assert len(rows) > 12
    for name, row in rows.items():
        assert max(row["likelihood"], row["letters"]) < 1e-4
        assert f"| {name} |" in text
        quoted = f"| {row['tokens']} | {row['likelihood']:.1e} | {row['letters']:.1e} | `{row['end_of_turn']}` |"
        assert quoted in text


def test_the_vllm_page_quotes_how_far_the_engines_differ() -> None:
    text = page("docs/measurements/engines.md")
    for name, largest in (("parity_float32.json", 1e-4), ("parity.json", 0.1)):
        measured = json.loads((ROOT / "benchmarks" / "results" / name).read_text())
        assert not measured["failed"]
        assert {"date", "device", "commit"} <= measured.keys()
        assert "dirty" not in measured["commit"]
        assert len(measured["pairs"]) == 3
        sets = {pair["likelihood"]["sets"] for pair in measured["pairs"]}
        assert f"{sets.pop()} sets" in text
        for pair in measured["pairs"]:
            nats, chosen = pair["likelihood"], pair["selection"]
            spread = " | ".join(f"{nats[f'{part}_nats']:.1e}" for part in ("median", "p99", "largest"))
            order = f"{nats['same_ranking']:.0%} | {nats['same_pairs']:.1%}"
            assert f"| {measured['model']['dtype']} | {spread} | {order} | {chosen['largest']:.1e} |" in text
            assert nats["largest_nats"] <= largest
        if measured["model"]["dtype"] == "bfloat16":
            margin = max(pair["likelihood"]["largest_margin_of_a_swapped_pair_nats"] for pair in measured["pairs"])
            assert f"at most {margin:.3f} nats apart" in text


@pytest.mark.parametrize("page", ["security.md", "guides/diagnosis.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    written = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text()))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert written
    assert written <= defined, written - defined


def test_no_source_reads_a_pickle_or_runs_remote_code() -> None:
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            found = path.read_text().replace("from pickle import UnpicklingError\n", "")
            assert not re.search(r"\bimport pickle|from pickle|torch\.load\(", found), path
            assert not re.search(r"(?<!\.)\b(?:eval|exec)\(|trust_remote_code=True", found), path


def test_the_sizing_page_quotes_what_its_script_calculates() -> None:
    from benchmarks import sizing

    committed = json.loads((ROOT / "benchmarks" / "results" / "sizing.json").read_text())
    assert committed["rows"] == [sizing.row(name, kind) for name in sizing.TEACHERS for kind in sizing.GPUS]
    text = (ROOT / "docs" / "measurements" / "sizing.md").read_text()
    for row in committed["rows"]:
        where = f"| {row['teacher']} | {row['gpus']} × {row['gpu']} |"
        memory = " | ".join(f"{row[part]:.1f}" for part in ("weights", "activations", "log_softmax", "cache"))
        assert f"{where} {memory} | {row['cache_tokens']:,} |" in text
        rates = " | ".join(f"{rate['sets_per_second']:.1f}" for rate in row["rates"])
        assert f"{where} {rates} |" in text
        jobs = " | ".join(f"{rate['jobs']:.1f}" for rate in row["rates"] if rate["response"] == 256)
        assert f"{where} {jobs} |" in text
    assert f"{committed['student_sets_per_second']['256']:.1f} sets a second" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert all("(calculated, not measured)" in heading for heading in headings)


def test_the_two_pages_that_predict_a_9b_teacher_agree() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "sizing.json").read_text())["rows"]
    (row,) = (row for row in rows if (row["teacher"], row["gpu"]) == ("gemma-2-9b", "H100 80 GB"))
    likelihood, both = (rate["sets_per_second"] for rate in row["rates"] if rate["response"] == 128)
    text = page("docs/measurements/scoring.md")
    assert f"| likelihood | {likelihood:.0f} |" in text
    assert f"| likelihood and all four rotations | {both:.0f} |" in text


def test_the_jobs_page_quotes_measurements_that_are_good_enough() -> None:
    text = page("docs/measurements/fairness.md")
    measured = json.loads((ROOT / "benchmarks" / "results" / "jobs.json").read_text())
    for row in measured["shares"]:
        assert (
            f"| {row['jobs']} | {row['tokens_per_second']:,.0f} | {row['of_one_jobs_best']:.1%} "
            f"| {row['furthest_from_fair_share']:.1%} |"
        ) in text
        assert row["of_one_jobs_best"] >= 0.95
        assert row["furthest_from_fair_share"] <= 0.10
    polite, overload = measured["polite"], measured["overload"]
    assert f"{1e3 * polite['alone_p95_seconds']:.0f} ms alone" in text
    assert f"{1e3 * polite['beside_p95_seconds']:.0f} ms: {polite['times']:.2f} times" in text
    assert f"{overload['offered_times_best']:.1f} times" in text
    assert f"goodput of {overload['goodput_of_best']:.1%}" in text
    assert f"{overload['refused_p50_ms']:.1f} ms in the median and {overload['refused_p99_ms']:.1f} ms" in text
    assert polite["times"] <= 2
    assert overload["goodput_of_best"] >= 0.90
    assert overload["refused_p99_ms"] <= 50
    assert set(overload["statuses"]) == {"200", "429"}


def test_the_operations_page_names_exactly_the_metrics() -> None:
    from pad_teacher.runtime.metrics import Metrics

    shown = {f"pad_{name.removeprefix('pad_')}" for name in Metrics().registry._names_to_collectors}
    named = set(re.findall(r"`(pad_[a-z_]+)`", (ROOT / "docs" / "guides" / "operations.md").read_text()))
    assert named <= shown
    families = {metric.name for metric in Metrics().registry.collect()}
    assert families == {name.removesuffix("_total") for name in named}


def test_the_training_page_quotes_what_overlap_gains() -> None:
    text = page("docs/measurements/training.md")
    measured = json.loads((ROOT / "benchmarks" / "results" / "overlap.json").read_text())
    larger, both = measured["wall_seconds_over_the_larger_alone"], measured["wall_seconds_over_both_alone_at_once"]
    for run, seconds in measured["median_wall_seconds"].items():
        assert f"| {seconds:.1f} | {larger[run]:.2f} | {both[run]:.2f} |" in text
    assert larger["staleness 0"] <= 1.35
    assert larger["staleness 1"] <= 1.10


def test_the_training_page_quotes_the_committed_measurements() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "train.json").read_text())
    text = page("docs/measurements/training.md")
    for row in measured["rows"]:
        seconds, rate, ratio = row["seconds_a_step"], row["steps_a_second"], row["times_ours"]
        assert f"| {seconds:.2f} | {rate:.3f} | {ratio:.2f} | {row['share_of_floor']:.0%} |" in text
        assert f"| {row['peak_bytes'] / 2**20:.0f} |" in text
    for row in measured["loss"]:
        assert f"| {row['loss']} | {row['n']} | {1000 * row['seconds']:.1f} | {row['share']:.2%} |" in text
        assert row["share"] < 0.01
    assert ("ppd", 64) in {(row["loss"], row["n"]) for row in measured["loss"]}


def test_the_training_page_quotes_what_decomposing_costs() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "decompose.json").read_text())["rows"]
    text = page("docs/measurements/training.md")
    for row in rows:
        assert row["pairs"] == pytest.approx((row["size"] - 1) / (row["n"] - 1))
        listwise, pairwise = (
            "–" if tokens is None else f"{tokens:,}"
            for tokens in (row["teacher_tokens_listwise"], row["teacher_tokens_pairwise"])
        )
        costs = f"| {row['n']} | {row['parts']} | {listwise} | {pairwise} | {row['student_tokens']:,} "
        kept = f"| {row['loss_ms']:.1f} | {row['pairs']:.0%} | {row['of_ceiling']:.0%} "
        directions = f"| {row['direction']:.2f} | {row['direction_vpd']:.2f} |"
        assert (costs + kept + directions in text) == (row["n"] in (8, 16, 64)), row


def test_decompose_quotes_the_tokens_its_script_counts() -> None:
    from benchmarks import decompose

    rows = json.loads((ROOT / "benchmarks" / "results" / "decompose.json").read_text())["rows"]
    for row in rows:
        if row["size"] <= 8:
            for form in ("listwise", "pairwise"):
                counted = decompose.teacher_tokens(row["size"], form)
                assert row["parts"] * counted == row[f"teacher_tokens_{form}"]
    assert decompose.teacher_tokens(27, "listwise") is None
