"""The command answers fast, takes settings in the promised order, and says every error in one line."""

import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import cli
from pad_student.commands.settings import DistillSettings, SampleSettings, TrainSettings
from pad_student.commands.settings_loader import load
from pad_student.errors import BadSettings, StudentError, UsageError

SAMPLE = ["--model", "m", "--prompts", "p.jsonl", "--out", "o.jsonl"]
WRONG = ["sample", *SAMPLE, "-n", "many"]
YAML = """
model: m
teacher: http://t
prompts: p.jsonl
output_dir: out
n: 6
learning_rate: 1e-6
save_steps: 50
adam_epsilon: 1e-7
lora: {r: 8}
"""
HEAVY = ("torch", "transformers", "httpx", "numpy")
PROBE = f"""
import sys
from pad_student.commands.cli import main
status = main(sys.argv[1:])
print(status, [name for name in {HEAVY} if name in sys.modules])
"""


def load_sample(*arguments: Any) -> SampleSettings:
    return load(SampleSettings, "pad-student sample", [*SAMPLE, *arguments])


def load_distill(tmp_path: Path, *arguments: Any, text: Any = YAML) -> DistillSettings:
    path = tmp_path / "distill.yaml"
    path.write_text(text)
    return load(DistillSettings, "pad-student distill", [str(path), *arguments])


@pytest.fixture(autouse=True)
def nothing_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that no file has will do."""
    monkeypatch.setattr(cli, "check_first", lambda _: None)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Settings that the sample command was run with."""
    settings = []
    monkeypatch.setattr("pad_student.commands.sample.run", settings.append)
    return settings


@pytest.mark.parametrize("arguments", [["--help"], ["sample", "--help"], ["distill", "--help"], ["eval", "--help"]])
def test_help_imports_nothing_heavy(arguments: Any) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("usage: pad-student")
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version_is_one_line_without_anything_heavy() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", PROBE, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"pad-service {version('pad-service')}", "0 []"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1  # seconds of one idle core


def test_flags_go_before_variables_before_yaml_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = tmp_path / "some.yaml"
    yaml.write_text("n: 2\ntemperature: 0.2\nseed: 2\n")
    monkeypatch.setenv("PAD_STUDENT_N", "3")
    monkeypatch.setenv("PAD_STUDENT_TEMPERATURE", "0.3")
    settings = load_sample("--config", str(yaml), "-n", "4")
    assert (settings.n, settings.temperature, settings.seed, settings.batch_size) == (4, 0.3, 2, 16)


@pytest.mark.parametrize(
    ("given", "urls"),
    [("http://a", ["http://a"]), ("http://a, http://b", ["http://a", "http://b"]), ("[http://a]", ["http://a"])],
)
def test_a_teacher_is_one_address_or_several_from_any_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, urls: Any
) -> None:
    assert load_distill(tmp_path, text=YAML.replace("http://t", given)).teacher == urls
    plain = given.strip("[]")
    assert load_distill(tmp_path, "--teacher", plain).teacher == urls
    monkeypatch.setenv("PAD_STUDENT_TEACHER", plain)
    assert load_distill(tmp_path).teacher == urls


def test_an_empty_list_of_teachers_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="teacher: List should have at least 1 item"):
        load_distill(tmp_path, text=YAML.replace("http://t", "[]"))


def test_flags_may_be_written_as_yaml_keys_are(tmp_path: Path) -> None:
    settings = load_distill(tmp_path, "--beta-teacher", "3", "--beta_student=1", "--n", "8")
    assert (settings.beta_teacher, settings.beta_student, settings.n) == (3.0, 1.0, 8)


def test_distill_takes_trainer_fields_beside_its_own(tmp_path: Path) -> None:
    settings = load_distill(tmp_path, "--save-steps", "70", "--bf16", "--warmup-steps=0.1")
    assert (settings.n, settings.learning_rate, settings.lora) == (6, 1e-6, {"r": 8})
    assert settings.trainer == {"save_steps": 70, "adam_epsilon": 1e-7, "bf16": True, "warmup_steps": 0.1}


def test_train_needs_no_teacher() -> None:
    settings = load(
        TrainSettings, "pad-student train", ["--scored", "s", "--model", "m", "--out", "o", "--lora", "4"]
    )
    assert (settings.lora, settings.alpha, settings.beta_teacher, settings.loss) == (4, 0.8, 10.0, "ppd")


@pytest.mark.parametrize("argument", ["--temprature=1", "--te=1", "-x", "stray"])
def test_a_misspelt_flag_is_refused(argument: Any) -> None:
    with pytest.raises(UsageError):
        load_sample(argument)


def test_a_misspelt_trainer_field_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="sav_steps is not a setting of this command; did you mean save_steps"):
        load_distill(tmp_path, "--sav-steps", "5")
    with pytest.raises(BadSettings, match="beta_teecher is not a setting of this command; did you mean beta_teacher"):
        load_distill(tmp_path, text=YAML + "beta_teecher: 3\n")


def test_a_misspelt_variable_is_refused(
    ran: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAD_STUDENT_TEMPRATURE", "1")
    assert cli.main(["sample", *SAMPLE]) == 2
    assert "PAD_STUDENT_TEMPRATURE" in capsys.readouterr().err
    assert ran == []


def test_a_variable_of_another_command_is_no_mistake(ran: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAD_STUDENT_TEACHER", "http://t")
    assert cli.main(["sample", *SAMPLE]) == 0
    assert len(ran) == 1


@pytest.mark.parametrize("text", ["n: [", "just text", "config: x", "n: many"])
def test_bad_yaml_is_one_line(tmp_path: Path, text: Any) -> None:
    with pytest.raises(BadSettings) as caught:
        load_distill(tmp_path, text=text)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named_with_the_ways_to_give_it() -> None:
    with pytest.raises(BadSettings, match="out is missing: give --out, PAD_STUDENT_OUT, or out in a YAML file"):
        load(SampleSettings, "pad-student sample", SAMPLE[:4])


@pytest.mark.parametrize(
    ("error", "status", "complaint"),
    [
        (StudentError("the disk is wet"), 1, "pad-student: the disk is wet\n"),
        (FileNotFoundError(2, "No such file or directory", "p.jsonl"), 1, "pad-student: p.jsonl: No such file"),
        (OSError("no such model\nlong advice"), 1, "pad-student: no such model\n"),
        (KeyboardInterrupt(), 130, "pad-student: stopped; the same command again continues"),
    ],
)
def test_an_error_is_one_line_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any, status: Any, complaint: Any
) -> None:
    def fail(settings: Any) -> None:
        raise error

    monkeypatch.setattr("pad_student.commands.sample.run", fail)
    assert cli.main(["sample", *SAMPLE]) == status
    err = capsys.readouterr().err
    assert err.startswith(complaint)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["smaple"], ["eval"], ["eval", "grad"], ["sample", "--frobnicate"], ["sample"], WRONG]
)
def test_a_wrong_command_line_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], arguments: Any) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_real_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pad_student.commands.sample.run", lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["sample", *SAMPLE])


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    settings = load_distill(tmp_path, "--key", "sesame")
    assert settings.key is not None
    assert settings.key.get_secret_value() == "sesame"
    assert "sesame" not in repr(settings)
