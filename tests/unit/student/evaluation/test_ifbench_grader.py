"""The grader of IFBench, over a package that has the names and forms of the real one."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pad_student.evaluation.grading import load_grader

GRADER = Path(__file__).parents[4] / "examples" / "real" / "ifbench_grader.py"
PACKAGE = """
import json
from pathlib import Path
from types import SimpleNamespace
from spacy.cli import download

download("a model that nobody uses")

def read_prompt_list(path):
    return [SimpleNamespace(**json.loads(line)) for line in Path(path).read_text().splitlines()]

def test_instruction_following_strict(example, responses):
    text = responses[example.prompt]
    return SimpleNamespace(follow_instruction_list=[name in text for name in example.instruction_id_list])
"""
PROMPTS: list[dict[str, Any]] = [
    {"key": "0", "prompt": "Say a. ", "instruction_id_list": ["a"], "kwargs": [{}]},
    {"key": "1", "prompt": "Say b and c.", "instruction_id_list": ["b", "c"], "kwargs": [{}, {}]},
]


@pytest.fixture
def grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], float]]:
    (tmp_path / "ifbench" / "data").mkdir(parents=True)
    (tmp_path / "ifbench" / "__init__.py").touch()
    (tmp_path / "ifbench" / "evaluation_lib.py").write_text(PACKAGE)
    lines = [json.dumps(each) + "\n" for each in PROMPTS]
    (tmp_path / "ifbench" / "data" / "IFBench_test.jsonl").write_text("".join(lines))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield load_grader(f"{GRADER}:grade")
    for name in {name for name in sys.modules if name.split(".")[0] in {"ifbench", "spacy"}} - before:
        del sys.modules[name]


def test_ifbench_grades_are_shares_of_followed_constraints(grade: Callable[[str, str], float]) -> None:
    assert grade("Say a.", "a") == 1.0  # the prompt stripped, as a file of prompts may keep it
    assert grade("Say b and c.", "b") == 0.5
    assert grade("Say b and c.", "x") == 0.0


def test_a_prompt_that_is_none_of_ifbench_is_an_error(grade: Callable[[str, str], float]) -> None:
    with pytest.raises(LookupError, match="none of IFBench's"):
        grade("Say d.", "d")
