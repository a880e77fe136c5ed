"""The real demonstration: what it measures of each prompt, how it compares, and what it says."""

import json
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pad_student.evaluation.grading import load_grader
from support.paths import ROOT

HERE = ROOT / "examples" / "real"


@pytest.fixture(scope="module")
def demo() -> Iterator[ModuleType]:
    """The script, which is no package, and has the name of tinyworld's."""
    path, names = list(sys.path), {"served", "rules", "make_models"}
    spec = spec_from_file_location("real_demo", HERE / "demo.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    for name in names:
        sys.modules.pop(name, None)


def scored(set_id: str, *responses: tuple[str, float, int]) -> dict[str, Any]:
    return {
        "id": set_id,
        "responses": [{"text": text, "log_likelihood": total, "tokens": n} for text, total, n in responses],
    }


def test_a_prompt_counts_by_the_mean_of_its_samples(demo: ModuleType) -> None:
    sets = [scored("a", ("four", -2.0, 1), ("sixsix", -4.0, 4)), scored("b", ("", -3.0, 1))]
    assert demo.means(sets, {"a": {"mean": 0.5}, "b": {"mean": 0.0}}) == {
        "rules_kept": {"a": 0.5, "b": 0.0},
        "teacher_reward": {"a": -1.5, "b": -3.0},
        "teacher_log_likelihood": {"a": -1.5, "b": -3.0},
        "characters": {"a": 5.0, "b": 0.0},
    }


def test_a_relative_reward_takes_off_the_empty_requests(demo: ModuleType) -> None:
    sets = [scored("a", ("four", -2.0, 2), ("six", -4.0, 2))]
    for response, alone in zip(sets[0]["responses"], (-6.0, -4.0), strict=True):
        response["unconditional_log_likelihood"] = alone
    found = demo.means(sets, {"a": {"mean": 0.5}})
    assert (found["teacher_reward"], found["teacher_log_likelihood"]) == ({"a": 1.0}, {"a": -1.5})


def test_the_comparison_is_paired_by_prompt(demo: ModuleType) -> None:
    before = {name: {"a": 0.0, "b": 10.0} for name in demo.MEASURES}
    after = {name: {"a": 1.0, "b": 11.0} for name in demo.MEASURES}
    found = demo.compared(before, after)
    for name in demo.MEASURES:
        assert (found[name]["gain"], found[name]["low"], found[name]["high"]) == (1, 1, 1)
    assert found["longer_by"] == pytest.approx(0.2)


def test_the_summary_names_both_gains_and_the_length(demo: ModuleType) -> None:
    gain = {"before": 0.25, "after": 0.5, "gain": 0.25, "low": 0.125, "high": 0.375}
    result = {"rules_kept": gain, "teacher_reward": gain, "longer_by": -0.05, "heldout_prompts": 80}
    result["normalization"] = "mean"
    lines = demo.summary(result | {"samples_a_prompt": 4}).splitlines()
    assert lines[0] == "rules kept: 0.250 before, 0.500 after, +0.250 (95 % interval +0.125 to +0.375)"
    assert lines[2] == "mean length -5.0%; 80 held-out prompts, 4 samples each"


def test_the_rule_of_each_committed_instruction_is_found() -> None:
    grade = load_grader(f"{HERE / 'rules.py'}:grade")
    for name in ("prompts", "heldout"):
        for each in map(json.loads, (HERE / f"{name}.jsonl").read_text().splitlines()):
            assert 0 <= grade(each["prompt"], "Some words.") <= 1


def test_an_unknown_instruction_has_no_grade() -> None:
    with pytest.raises(KeyError):
        load_grader(f"{HERE / 'rules.py'}:grade")("Say something.", "Some words.")


def test_another_run_is_not_continued(demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path), *arguments])
        demo.bind(demo.parsed(), ("student", "teacher"))

    started("--steps", "10")
    started("--steps", "10")
    with pytest.raises(SystemExit, match="begun with another steps"):
        started("--steps", "11")
    with pytest.raises(SystemExit, match="begun with another heldout"):
        started("--steps", "10", "--heldout", "16")


def test_missing_gguf_is_told_before_any_download(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--models", str(tmp_path)])

    def none_found(_: str) -> None:
        return None

    monkeypatch.setattr(demo, "find_spec", none_found)
    with pytest.raises(SystemExit, match="pip install gguf"):
        demo.models(demo.parsed())
