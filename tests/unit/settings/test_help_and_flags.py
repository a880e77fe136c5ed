"""Help is read from its top; the model may be given without its flag; the settings in use can be printed."""

import re
from typing import Any

import pytest
import yaml

from pad_settings.loader import parser_of
from pad_student.commands import cli
from pad_student.commands.programs import COMMANDS, program_of
from pad_student.commands.settings import DistillSettings, SampleSettings, TrainSettings
from pad_student.commands.settings_loader import load
from pad_student.errors import UsageError
from pad_teacher.cli import main as pad_teacher
from pad_teacher.settings import SERVE, read_settings

PROGRAMS = [SERVE, *(program_of(command.settings) for command in COMMANDS.values())]
REST = ["--prompts", "p", "--out", "o"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_help_has_the_required_first_and_examples_last(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = parser_of(program).format_help()
    assert text.startswith(f"usage: {program.name}")
    assert "default: None" not in text
    assert "null" not in text
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings[-2:] == ["General", "Examples"]
    required = [name for name, field in program.settings.model_fields.items() if field.is_required()]
    assert ("Required" in headings) == bool(required)
    listed = [re.search(rf"--{name.replace('_', '-')} |^  {name.upper()}\b", text, re.MULTILINE) for name in required]
    assert all(listed)
    first = min((found.start() for found in listed if found), default=0)
    assert text[:first].count("\n") < 15, "lines before the first required setting"


def test_every_setting_is_in_its_help() -> None:
    for program in PROGRAMS:
        text = parser_of(program).format_help()
        for name in program.settings.model_fields.keys() - {"trainer"}:
            assert re.search(rf"-{name.replace('_', '-')}\b|^  {name.upper()}\b", text, re.MULTILINE), (
                program.name,
                name,
            )


@pytest.mark.parametrize("arguments", [["m", *REST], [*REST, "m"], ["--prompts", "p", "m", "--out", "o"]])
def test_the_model_needs_no_flag_and_may_have_one(arguments: list[str]) -> None:
    assert load(SampleSettings, "pad-student sample", arguments).model == "m"
    assert load(SampleSettings, "pad-student sample", ["--model", "m", *REST]).model == "m"
    assert read_settings(["some/model", "--port", "1"]).model == "some/model"


def test_a_model_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        load(SampleSettings, "pad-student sample", ["m", "--model", "m", *REST])


def test_a_missing_model_is_named_with_the_ways_to_give_it() -> None:
    with pytest.raises(UsageError, match="model is missing: give MODEL, --model, PAD_STUDENT_MODEL, or model in a"):
        load(TrainSettings, "pad-student train", ["--scored", "s", "--out", "o"])


def test_the_settings_in_use_are_yaml_with_their_sources(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("model: m\nteacher: http://t\nprompts: p\noutput_dir: o\nsave_steps: 7\nlearning_rate: 1e-6\n")
    monkeypatch.setenv("PAD_STUDENT_N", "3")
    monkeypatch.setenv("PAD_STUDENT_KEY", "sesame")
    arguments = [str(file), "--alpha", "0.5", "--bf16", "--print-config"]
    assert cli.main(["distill", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "sesame" not in printed
    for line in (
        "n: 3  # PAD_STUDENT_N",
        "alpha: 0.5  # --alpha",
        f"save_steps: 7  # {file}",
        "bf16: true  # --bf16",
    ):
        assert line in printed.splitlines()
    assert "seed: 0  # default" in printed
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert yaml.safe_load(printed)["learning_rate"] == 1e-6
    before = load(DistillSettings, "pad-student distill", arguments[:-1])
    monkeypatch.delenv("PAD_STUDENT_N")
    assert load(DistillSettings, "pad-student distill", [str(again)]) == before


def test_the_teacher_prints_its_settings_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        pad_teacher(["serve", "m", "--port", "1", "--print-config"])
    assert stopped.value.code == 0
    assert {"port: 1  # --port", "host: 127.0.0.1  # default"} <= set(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(("flag", "level"), [("--quiet", "warning"), ("--verbose", "debug")])
def test_a_quiet_command_prints_its_settings_too(capsys: pytest.CaptureFixture[str], flag: str, level: str) -> None:
    with pytest.raises(SystemExit):
        pad_teacher(["serve", "m", flag, "--print-config"])
    assert f"log_level: {level}  # {flag}" in capsys.readouterr().out.splitlines()
    assert cli.main(["sample", "m", *REST, flag, "--print-config"]) == 0
    assert "model: m  # --model" in capsys.readouterr().out.splitlines()


def test_quiet_and_verbose_choose_what_is_logged() -> None:
    levels = [read_settings(["m", *flags]).log_level for flags in ([], ["--quiet"], ["--verbose"])]
    assert levels == ["info", "warning", "debug"]
    assert read_settings(["m", "--quiet", "--log-level", "error"]).log_level == "error"


def test_a_quiet_command_says_nothing_about_finished_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pad_student.commands.common import closing_line
    from pad_student.storage import voice

    monkeypatch.setattr("pad_student.commands.sample.run", lambda settings: closing_line("done"))
    monkeypatch.setattr(cli, "check_first", lambda _: None)
    monkeypatch.setenv("TQDM_DISABLE", "")
    try:
        assert cli.main(["sample", "m", *REST, "--quiet"]) == 0
        assert capsys.readouterr().err == ""
        assert cli.main(["sample", "m", *REST]) == 0
        assert capsys.readouterr().err == "done\n"
    finally:
        voice.choose()
