"""Only one side's packages installed: helps, keys, and one line for what needs the other side."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.paths import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
RUN = """
import sys
program, missing, arguments = sys.argv[1], set(sys.argv[2].split(",")), sys.argv[3:]
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
if program == "pad-teacher":
    from pad_teacher.cli import main
else:
    from pad_student.commands.cli import main
sys.exit(main(arguments))
"""


def packages(extra: str) -> set[str]:
    return {re.split(r"[^a-z0-9-]", name)[0].replace("-", "_") for name in EXTRAS[extra]}


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program with the other side's extra alone."""
    own, other = ("server", "client") if program == "pad-teacher" else ("client", "server")
    missing = ",".join(packages(own) - packages(other))
    command = [sys.executable, "-c", RUN, program, missing, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("program", ["pad-teacher", "pad-student"])
def test_help_needs_the_packages_of_no_side(program: str) -> None:
    ran = run(program, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_keys_are_made_without_the_servers_packages(tmp_path: Path) -> None:
    ran = run("pad-teacher", "key", "add", "lab", "--keys", tmp_path / "keys")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("pad_")


@pytest.mark.parametrize(
    ("program", "arguments", "extra"),
    [
        ("pad-teacher", ["serve", "--model", "m"], "server"),
        ("pad-student", ["score", "--teacher", "http://localhost:1", "--sets", "a", "--out", "b"], "client"),
    ],
)
def test_a_command_without_its_packages_is_one_line(program: str, arguments: list[str], extra: str) -> None:
    ran = run(program, *arguments)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith(f"is not installed: pip install 'pad-service[{extra}]'")
    assert "Traceback" not in ran.stderr


def test_scoring_needs_the_packages_of_http_alone(tmp_path: Path) -> None:
    """``pip install 'pad-service[http]'``: neither torch nor transformers, nor what reads tables."""
    missing = ",".join((packages("client") | packages("server")) - packages("http") | {"numpy", "tokenizers"})
    sets = tmp_path / "sets.jsonl"
    sets.write_text('{"prompt": "why?", "responses": ["yes", "no"]}\n')
    score = ["score", "--teacher", "http://127.0.0.1:1", "--sets", str(sets), "--out", str(tmp_path / "scored.jsonl")]
    code = RUN.replace(
        "sys.exit(main(arguments))",
        "from pad_student import AsyncTeacher, SampledSet, Teacher, TeacherError, read_sets, set_of\n"
        "sys.exit(main(arguments))",
    )
    command = [sys.executable, "-c", code, "pad-student", missing, *score, "--patience", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 1
    assert "127.0.0.1:1" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
