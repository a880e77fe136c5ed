"""``init`` writes every setting as YAML that the program reads, and overwrites nothing."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from pad_settings.commented import all_settings
from pad_settings.loader import read
from pad_student.commands import cli
from pad_student.commands.programs import COMMANDS, program_of
from pad_student.commands.settings import Command
from pad_teacher.cli import main as pad_teacher
from pad_teacher.settings import SERVE

PROGRAMS = [program_of(COMMANDS[name].settings) for name in get_args(Command)]


def with_all_set(text: str) -> str:
    """The file after the # of each setting is taken away."""
    return re.sub(r"^#(?=\w+:)", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("program", [SERVE, *PROGRAMS], ids=lambda program: program.name)
def test_the_file_is_read_back_as_the_defaults(program: Any, tmp_path: Path) -> None:
    file, whole = tmp_path / "some.yaml", tmp_path / "whole.yaml"
    text = all_settings(program, file)
    file.write_text(text)
    whole.write_text(with_all_set(text))
    as_written = read(program, ["--config", str(file)]).settings
    assert as_written == program.settings.model_validate(as_written.model_dump(exclude_defaults=True))
    found = read(program, ["--config", str(whole)])
    assert found.settings == as_written
    names = {
        name
        for name, field in program.settings.model_fields.items()
        if name not in ("trainer", "key", "reference_key")
    }
    assert names <= found.origins.keys(), "every setting is in the file"
    assert max(map(len, text.splitlines())) <= 118


@pytest.mark.parametrize(
    ("main", "name"), [(cli.main, "distill.yaml"), (pad_teacher, "teacher.yaml")], ids=["student", "teacher"]
)
def test_init_writes_a_new_file_and_never_overwrites(
    main: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert f"{name}: every setting" in capsys.readouterr().err
    (tmp_path / name).write_text("mine")
    assert main(["init"]) == 1
    assert f"{name} is there already" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


def test_init_of_a_training_command_has_transformers_fields(tmp_path: Path) -> None:
    from pad_student.preference.config import PADConfig

    file = tmp_path / "train.yaml"
    assert cli.main(["init", str(file), "--command", "train"]) == 0
    assert "#save_steps: 500" in file.read_text()
    file.write_text(with_all_set(file.read_text()))
    program = next(each for each in PROGRAMS if each.name == "pad-student train")
    fields: Any = read(program, ["--config", str(file)]).settings.trainer
    assert {"save_steps", "bf16", "report_to", "num_train_epochs", "gradient_checkpointing"} <= fields.keys()
    made, usual = PADConfig("o", use_cpu=True), PADConfig(**{**fields, "output_dir": "o", "use_cpu": True})
    assert made.to_dict() | {"logging_dir": None} == usual.to_dict() | {"logging_dir": None}
