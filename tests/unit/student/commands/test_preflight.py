"""Wrong paths and names are one line before torch is imported, and nothing is written."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands.preflight import check_first
from pad_student.commands.settings import ScoreSettings
from pad_torch.hub_names import why_unreachable
from support.paths import ROOT
from support.processes import ENVIRONMENT
from support.waiting import wait

RUN = (
    "import sys; from pad_student.commands.cli import main; s = main(sys.argv[1:]); print('torch' in sys.modules, s)"
)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"--model": "no/such/model"}, "no/such/model: no such model directory"),
        ({"--model": "no-such-model"}, "HF_HUB_OFFLINE forbids to ask the Hub"),
        ({"--prompts": "no/such.jsonl"}, "no/such.jsonl: no such file or directory"),
        ({"--column": "question"}, "question"),
        ({"--output-dir": "README.md/run"}, "README.md is a file, not a directory"),
    ],
)
def test_wrong_input_is_one_line_before_torch(
    tiny_directory: Path, tmp_path: Path, wrong: dict[str, str], complaint: str
) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "why?"}\n')
    out = tmp_path / "out"
    given: dict[str, Any] = {"--model": tiny_directory, "--prompts": tmp_path / "p.jsonl", "--output-dir": out}
    given |= {"--teacher": "http://127.0.0.1:9"} | wrong
    arguments = [str(word) for pair in given.items() for word in pair]
    ran = subprocess.run(
        [sys.executable, "-c", RUN, "distill", *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        check=False,
    )
    assert ran.stdout == "False 1\n", ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert complaint in ran.stderr
    assert not out.exists()


def test_response_sets_may_be_a_directory_or_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pad_student.commands.preflight.why_unreachable", lambda *_: None)
    for sets in (tmp_path, Path("org/sets")):
        check_first(ScoreSettings(teacher=["http://t"], sets=sets, out=tmp_path / "scored.jsonl"))


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()
    monkeypatch.setattr("pad_torch.hub_names.SECONDS", 0.05)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: wait(given_up))
    assert "the Hub did not answer" in str(why_unreachable("some/model"))
    given_up.set()
