"""A wrong name of a setting is answered with the right one, on both sides and from every source."""

from pathlib import Path

import pytest

from pad_settings.names import right_name
from pad_student.commands.settings import DistillSettings, SampleSettings, ScoreSettings, TrainSettings
from pad_student.commands.settings_loader import load
from pad_student.errors import UsageError
from pad_teacher.settings import UsageError as TeacherUsageError
from pad_teacher.settings import read_settings

NEEDED = ["--model", "m", "--teacher", "http://t", "--prompts", "p.jsonl", "--output-dir", "o"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lr", "learning_rate"),
        ("max_new_tokens", "max_response_tokens"),
        ("model_name_or_path", "model"),
        ("num_generations", "n"),
        ("out", "output_dir"),
        ("learning_rat", "learning_rate"),
        ("num_epochs", "num_train_epochs"),
    ],
)
def test_distill_names_the_setting_that_was_meant(tmp_path: Path, wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=f"{wrong} is not a setting of this command; did you mean {right}\\?"):
        load(DistillSettings, "pad-student distill", [*NEEDED, f"--{wrong.replace('_', '-')}", "1"])
    file = tmp_path / "d.yaml"
    file.write_text(f"{wrong}: 1\n")
    with pytest.raises(UsageError, match=rf"did you mean {right}\? \(.*d\.yaml\)"):
        load(DistillSettings, "pad-student distill", [str(file), *NEEDED])


def test_each_command_names_a_setting_of_its_own() -> None:
    with pytest.raises(UsageError, match="--max-new-tokens"):
        load(SampleSettings, "pad-student sample", ["--max-response-tokens", "5"])
    with pytest.raises(UsageError, match="--sets"):
        load(ScoreSettings, "pad-student score", ["--dataset", "x"])
    with pytest.raises(UsageError, match="did you mean out"):
        load(TrainSettings, "pad-student train", ["--model", "m", "--scored", "s", "--output-dir", "o"])


@pytest.mark.parametrize(
    ("flag", "right"),
    [
        ("--prot", "--port"),
        ("--model-name-or-path", "--model"),
        ("--tensor-parallel-size", "--vllm.tensor-parallel-size"),
        ("--max-model-len", "--max-context-tokens"),
        ("--ssl-certfile", "--tls-certificate"),
    ],
)
def test_the_teacher_names_the_flag_that_was_meant(flag: str, right: str) -> None:
    with pytest.raises(
        TeacherUsageError, match=f"{flag} is not a setting of pad-teacher serve; did you mean {right}"
    ):
        read_settings(["m", flag, "1"])


def test_a_misspelt_variable_is_answered_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAD_TEACHER_PROT", "1")
    with pytest.raises(TeacherUsageError, match="did you mean PAD_TEACHER_PORT"):
        read_settings(["m"])
    monkeypatch.delenv("PAD_TEACHER_PROT")
    monkeypatch.setenv("PAD_TEACHER_TENSOR_PARALLEL_SIZE", "1")
    with pytest.raises(TeacherUsageError, match=r"did you mean PAD_TEACHER_VLLM__TENSOR_PARALLEL_SIZE\?$"):
        read_settings(["m"])


def test_a_name_like_nothing_gets_no_suggestion() -> None:
    assert right_name("frobnicate", ["model", "port"]) is None


def test_a_wrong_value_says_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TeacherUsageError, match=r"^port: .* \(from --port\)$"):
        read_settings(["m", "--port", "99999"])
    monkeypatch.setenv("PAD_TEACHER_PORT", "99999")
    with pytest.raises(TeacherUsageError, match=r"\(from PAD_TEACHER_PORT\)$"):
        read_settings(["m"])
    (tmp_path / "t.yaml").write_text("drain-seconds: -1\n")
    monkeypatch.delenv("PAD_TEACHER_PORT")
    with pytest.raises(TeacherUsageError, match=r"^drain_seconds: .*t\.yaml\)$"):
        read_settings(["m", "--config", str(tmp_path / "t.yaml")])
