"""The option ``--without-torch``, which ``make check`` uses."""

import subprocess
import sys

import pytest

from support.paths import ROOT

TORCH_FREE = ["wire", "teacher/admission", "teacher/api", "teacher/cache", "teacher/scoring", "student/teacher"]
LOSSES = "tests/unit/student/preference/test_losses.py"


def collect(*paths: str) -> str:
    """Collect the tests of these files and folders with the option, and return what pytest prints."""
    command = [sys.executable, "-m", "pytest", "--without-torch", "--collect-only", "-rs", *paths]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), ran.stdout[-2000:]
    return ran.stdout


def test_code_without_torch_is_tested_without_torch() -> None:
    assert "SKIPPED" not in collect(*(f"tests/unit/{folder}" for folder in TORCH_FREE))


def test_a_file_that_imports_torch_is_skipped() -> None:
    printed = collect(LOSSES)
    assert "SKIPPED [1]" in printed
    assert "imports torch" in printed
