"""Completion scripts know every command and flag, and are valid in their shell."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import cli
from pad_student.commands.programs import COMMANDS
from pad_teacher.cli import main as pad_teacher
from pad_teacher.cli import parsers

MAIN: dict[str, Any] = {"pad-student": cli.main, "pad-teacher": pad_teacher}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_students_script_has_commands_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("distill", "win-rate", "--beta-teacher", "--print-config", "listwise"))


def completed(begun: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The words that bash offers at the end of a command line."""
    program = begun.split()[0]
    assert MAIN[program](["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    words = begun.split(" ")
    ask = (
        f"source {script}; COMP_WORDS=({' '.join(word or repr('') for word in words)}); COMP_CWORD={len(words) - 1};"
        f" $(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("begun", "offered"),
    [
        ("pad-student score --tea", {"--teacher"}),
        ("pad-student eval win-rate --base", {"--baseline"}),
        ("pad-student audit --min", {"--minutes"}),
        ("pad-teacher serve --por", {"--port"}),
        ("pad-teacher key add --met", {"--metrics"}),
        ("pad-teacher key list --us", {"--usage"}),
        ("pad-teacher health --u", {"--url"}),
        ("pad-teacher completion z", {"zsh"}),
    ],
)
def test_bash_completes_what_is_begun(
    begun: str, offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(begun, tmp_path, capsys) == offered


@pytest.mark.parametrize(("program", "commands"), [("pad-student", COMMANDS), ("pad-teacher", parsers())])
def test_bash_offers_every_command(
    program: str, commands: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(f"{program} ", tmp_path, capsys) >= {name.split()[0] for name in commands}
    for name in (name for name in commands if " " in name):
        assert completed(f"{program} {name}", tmp_path, capsys) == {name.split()[1]}


def test_the_help_lists_every_command_of_the_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    assert pad_teacher(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in parsers())
