"""A real ``pad-student distill`` of the tiny world on a terminal of 80 columns, and Ctrl-C pressed there."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import ENVIRONMENT, TeacherProcess, student, teacher_process
from support.terminal import COLUMNS, Terminal

TINYWORLD = Path(__file__).parents[2] / "examples" / "tinyworld"
SILENCE = 2.0  # seconds, if a core is idle: an import that keeps the interpreter's lock lasts longer on busy ones

STOPPING = r"stopping (while|after) \w+"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    with teacher_process(TINYWORLD / "teacher", tmp_path_factory.mktemp("teacher") / "log") as served:
        served.wait_until_ready()
        yield served


def distill(teacher: TeacherProcess, out: Path, steps: int) -> list[Any]:
    return [
        *("distill", "--model", TINYWORLD / "student", "--teacher", teacher.url),
        *("--prompts", TINYWORLD / "prompts.jsonl", "--output-dir", out, "--max-steps", steps),
        *("--prompts-per-step", 16, "--max-response-tokens", 24, "--use-cpu", "true"),
    ]


def start(terminal: Terminal, arguments: list[Any]) -> subprocess.Popen[bytes]:
    return terminal.start([sys.executable, "-m", "pad_student", *map(str, arguments)], env=ENVIRONMENT)


def busy() -> float:
    """How many times slower a process is than on an idle machine, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def a_step_is_done(text: str) -> bool:
    return re.search(r"step [1-9]\d*/400", text) is not None


def test_a_run_is_never_silent_and_its_line_fits(teacher: TeacherProcess, tmp_path: Path) -> None:
    with Terminal() as terminal:
        process = start(terminal, distill(teacher, tmp_path, 3))
        assert process.wait(200) == 0, terminal.text
    assert terminal.longest_silence() < SILENCE * busy()
    assert max(map(len, terminal.redrawn)) <= COLUMNS
    seen = terminal.text
    assert all(name in seen for name in ("starting", "step 3/3 loss", "report.html"))
    assert any(phase in seen for phase in ("· sampling", "· scoring", "· training"))


def test_ctrl_c_is_answered_at_once_and_the_run_continues(teacher: TeacherProcess, tmp_path: Path) -> None:
    arguments = distill(teacher, tmp_path, 400)
    with Terminal() as terminal:
        process = start(terminal, arguments)
        terminal.wait_for(a_step_is_done)
        terminal.press_ctrl_c()
        pressed = time.monotonic()
        terminal.wait_for(lambda text: re.search(STOPPING, text) is not None)
        assert time.monotonic() - pressed < SILENCE * busy()
        assert process.wait(60) == 130
    assert "pad-student: stopped; the same command again continues from here" in terminal.lines
    assert "Traceback" not in terminal.text
    steps = [int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*")]
    assert steps
    again = student(*distill(teacher, tmp_path, max(steps) + 1))
    assert again.returncode == 0, again.stderr


def test_a_second_ctrl_c_ends_the_process_now(teacher: TeacherProcess, tmp_path: Path) -> None:
    with Terminal() as terminal:
        process = start(terminal, distill(teacher, tmp_path, 400))
        terminal.wait_for(a_step_is_done)
        terminal.press_ctrl_c()
        terminal.wait_for(lambda text: re.search(STOPPING, text) is not None)
        terminal.press_ctrl_c()
        assert process.wait(10) in (130, -signal.SIGINT)
    assert "Traceback" not in terminal.text
