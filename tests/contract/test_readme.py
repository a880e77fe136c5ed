"""The README's commands, as they stand there: only the port and the number of steps are the test's own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.processes import ENVIRONMENT, TeacherProcess, teacher_process

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of one section."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    shell = (
        ["bash", "-euo", "pipefail", "-c", script]
        if not script.startswith("import")
        else [sys.executable, "-c", script]
    )
    ran = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder that looks like the checkout, the README's first section done, and a service as it says."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "runs").mkdir()
    environment = ENVIRONMENT | {"PATH": f"{BIN}:{os.environ['PATH']}", "PAD_STUDENT_MAX_STEPS": "2"}
    make_key, serve = blocks("One teacher for many student jobs", "sh")[0].splitlines()
    run(make_key, folder, environment)
    options = serve.replace("pad-teacher serve", "").split()
    model, keys = options[options.index("--model") + 1], folder / options[options.index("--keys") + 1]
    with teacher_process(ROOT / model, folder / "log", "--keys", str(keys)) as teacher:
        teacher.wait_until_ready()
        key = (folder / "my-lab.key").read_text().strip()
        yield folder, teacher, environment | {"KEY": key, "PAD_STUDENT_KEY": key}


Place = tuple[Path, TeacherProcess, dict[str, str]]


def at_port(script: str, teacher: TeacherProcess) -> str:
    return script.replace("localhost:8010", teacher.url.removeprefix("http://"))


def test_one_teacher_for_many_jobs(place: Place) -> None:
    folder, teacher, environment = place
    answer = run(at_port(blocks("One teacher for many student jobs", "sh")[1], teacher), folder, environment)
    assert '"status":"ready"' in answer
    assert '"fingerprint"' in answer
    assert "pad_ready 1.0" in answer


def test_scoring_with_curl_and_with_python(place: Place) -> None:
    folder, teacher, environment = place
    (curl,) = blocks("Scoring response sets over HTTP", "sh")
    answer = run(at_port(curl, teacher), folder, environment)
    assert '"reward"' in answer
    assert '"label_mass"' in answer
    (python,) = blocks("Scoring response sets over HTTP", "python")
    assert "two three four five -" in run(at_port(python, teacher), folder, environment)


def test_training_by_command_by_stages_and_in_python(place: Place) -> None:
    folder, teacher, environment = place
    distill, stages = blocks("Training a local student against a remote teacher", "sh")
    run(at_port(distill, teacher), folder, environment)
    assert (folder / "runs/tinyworld/model.safetensors").exists()
    assert (folder / "runs/tinyworld-grade/result.json").exists()
    run(at_port(stages, teacher), folder, environment)
    assert (folder / "runs/offline/model.safetensors").exists()
    (python,) = blocks("Training a local student against a remote teacher", "python")
    run(at_port(python, teacher), folder, environment)


def test_the_commands_of_the_first_section_are_the_makefiles(place: Place) -> None:
    targets = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(f"\n{target}: " in (ROOT / "Makefile").read_text() for target in targets)


def test_the_demo_runs_to_its_end_and_writes_its_result(tmp_path: Path) -> None:
    """Two steps of it; what all of them bring is measured by ``make bench``."""
    demo = [sys.executable, ROOT / "examples/tinyworld/demo.py", "--out", tmp_path / "demo"]
    ran = subprocess.run(
        demo,
        cwd=tmp_path,
        env=ENVIRONMENT | {"PAD_STUDENT_MAX_STEPS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert {"grade_before", "grade_after", "wall_seconds", "teacher_tokens"} <= result.keys()
    assert 0.35 <= result["grade_before"] <= 0.6
    assert str(result["grade_after"])[:4] in ran.stdout
