import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = {"pad_wire": "shared", "pad_teacher": "server", "pad_student": "client"}


def named_files() -> set[str]:
    return set(re.findall(r"`([\w/]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text()))


def modules() -> set[str]:
    found: set[str] = set()
    for package, folder in PACKAGES.items():
        base = ROOT / folder / package
        found |= {str(path.relative_to(base)) for path in base.rglob("*.py") if not path.name.startswith("__")}
    return found


def test_the_architecture_names_every_module_and_none_that_is_not_there() -> None:
    assert named_files() == modules()


def test_every_file_says_at_its_top_what_it_is_for() -> None:
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            assert path.read_text().startswith('"""'), path


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ARCHITECTURE.md",
        "examples/tinyworld/README.md",
        "benchmarks/README.md",
        "docs/performance.md",
        "docs/vllm.md",
    ],
)
def test_every_link_and_file_that_a_document_names_is_there(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_gemma_settings_are_settings() -> None:
    from pad_student.loading import load
    from pad_student.settings import DistillSettings

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
    seeds = json.loads((ROOT / "benchmarks" / "demo_seeds.json").read_text())
    grades = [f"{run['grade_before']:.3f} to {run['grade_after']:.3f}" for run in seeds["runs"]]
    text = (ROOT / "README.md").read_text()
    assert "{}, {} and {}".format(*grades) in text
    assert f"+{seeds['smallest_gain']:.3f}; median {seeds['median_wall_seconds']:.0f} s" in text


def test_the_tiny_world_quotes_its_measurements_and_they_are_good_enough() -> None:
    measured = json.loads((ROOT / "examples" / "tinyworld" / "measured.json").read_text())
    text = (ROOT / "examples" / "tinyworld" / "README.md").read_text()
    likelihood, choice = (measured[f"pairs_ordered_by_{how}"]["all"] for how in ("likelihood", "multiple_choice"))
    student, teacher = (measured[f"{model}_grade_sampled"]["all"] for model in ("student", "teacher"))
    for quoted in (f"{likelihood:.1%}", f"{choice:.1%}", f"{measured['label_mass']:.3f}", f"{student:.3f}"):
        assert quoted in text
    assert likelihood >= 0.85
    assert choice >= 0.80
    assert measured["label_mass"] >= 0.95
    assert 0.35 <= student <= 0.6
    assert teacher >= student + 0.25


def likelihood_rows(name: str) -> dict[str, dict[str, float]]:
    rows = json.loads((ROOT / "benchmarks" / name).read_text())["rows"]
    return {row["way"]: row for row in rows if row["part"] == "likelihood"}


def test_the_performance_page_quotes_the_committed_measurements() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    for row in likelihood_rows("scoring.json").values():
        assert f"| {row['seconds']:.2f} | {row['times_ours']:.2f} | {row['tokens_per_second']:.0f} |" in text
        assert f"| {row['share_of_floor']:.1%} | {row['share_of_fastest_floor']:.1%} |" in text
    long = likelihood_rows("scoring_long_prompt.json")
    assert f"{long['ours']['seconds']:.2f} s, plain transformers {long['plain']['seconds']:.2f}" in text
    assert f"{likelihood_rows('scoring_mixed.json')['ours']['seconds']:.1f} s in-process" in text
    for row in json.loads((ROOT / "benchmarks" / "growth.json").read_text())["rows"]:
        assert f"| {row['seconds']:.2f} | {row['predicted_seconds']:.2f} |" in text
