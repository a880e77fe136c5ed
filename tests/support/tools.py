"""For tests of configuration files: run a linter, read YAML, parse a command's flags."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pad_teacher.settings import ServeSettings, read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UID = 10001  # of the user in every image


def check(tool: str | Path, *arguments: str | Path) -> None:
    """Run a linter, which must find nothing. A name alone is a tool of the dependency group ``dev``."""
    command = Path(sys.executable).parent / tool
    assert command.exists(), f"{tool} is not installed: run make install"
    ran = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def documents(path: Path) -> list[Any]:
    """All YAML documents of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def serve_settings(arguments: list[str]) -> ServeSettings:
    """Settings of ``pad-teacher serve`` in a container, as the program itself reads them.

    Each ``${VARIABLE:?…}`` of compose becomes some text.
    """
    command, *flags = (re.sub(r"\$\{.*?\}", "given", text) for text in arguments)
    assert command == "serve"
    return read_settings(["--host", "0.0.0.0", *flags])  # as PAD_TEACHER_HOST of the images has it
