"""``examples/loop.py``: the method in one file, run as a reader would run it."""

import ast
import re
import subprocess
import sys
from math import log
from pathlib import Path

from support.paths import ROOT
from support.processes import ENVIRONMENT, teacher_process

LOOP = ROOT / "examples" / "loop.py"


def test_the_loop_trains_against_a_real_teacher(tmp_path: Path) -> None:
    with teacher_process(ROOT / "examples" / "tinyworld" / "teacher", tmp_path / "log") as teacher:
        teacher.wait_until_ready()
        command = [sys.executable, str(LOOP), teacher.url, "2"]
        ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    losses = [float(loss) for loss in re.findall(r"^step \d+: loss ([\d.]+), ", ran.stdout, re.MULTILINE)]
    assert len(losses) == 2
    assert all(0 < loss < log(2) for loss in losses)


def test_the_loop_is_short_and_uses_public_names_alone() -> None:
    text = LOOP.read_text()
    assert len(text.splitlines()) <= 60
    imported = {
        alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported == {"sys", "torch", "pad_student"}
    assert "Trainer(" not in text
