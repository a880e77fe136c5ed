"""An output holds what its name says: another content under an id or a path is done again, or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import evaluate, sample, score
from pad_student.commands.settings import (
    AnswerSettings,
    GradeSettings,
    SampleSettings,
    ScoreSettings,
    WinRateSettings,
)
from pad_student.errors import EvaluationError, JsonLinesError, OtherRun
from pad_student.storage.jsonl import read
from pad_student.teacher.client import Teacher
from pad_wire import ScoredSet
from support.fake_teacher import FakeTeacherService
from support.tiny_student import save_tiny_student, tiny_model

Texts = dict[str, list[str]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeTeacherService:
    fake = FakeTeacherService()

    def connect(settings: Any, fingerprint: Any = None) -> Teacher:
        return Teacher(settings.urls, fingerprint=fingerprint, transport=fake.transport)

    for stage in (score, evaluate):
        monkeypatch.setattr(stage, "connect", connect)
    return fake


def write_sets(path: Path, texts: Texts, prompt: str = "which?") -> Path:
    rows = [{"id": name, "prompt": prompt, "responses": each} for name, each in texts.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_prompts(path: Path, prompts: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"id": name, "prompt": each}) + "\n" for name, each in prompts.items()))
    return path


def train_a_little(model: Path) -> None:
    """Save other weights at the same path."""
    tiny_model(seed=1).save_pretrained(model)


def scoring(folder: Path, **changes: Any) -> ScoreSettings:
    return ScoreSettings(teacher=["http://t"], sets=folder / "sets.jsonl", out=folder / "scored.jsonl", **changes)


def comparing(folder: Path) -> WinRateSettings:
    ours, theirs = str(folder / "ours.jsonl"), str(folder / "theirs.jsonl")
    return WinRateSettings(teacher=["http://t"], model=ours, baseline=theirs, out=folder / "won")


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "won" / "result.json").read_text())


@pytest.mark.parametrize("change", [{"texts": {"a": ["no"], "b": ["other"]}}, {"prompt": "whose?"}])
def test_other_texts_under_a_scored_id_are_refused(tmp_path: Path, service: FakeTeacherService, change: Any) -> None:
    first: dict[str, Any] = {"texts": {"a": ["yes"], "b": ["other"]}}
    write_sets(tmp_path / "sets.jsonl", **first)
    score.run(scoring(tmp_path))
    before = (tmp_path / "scored.jsonl").read_bytes()
    write_sets(tmp_path / "sets.jsonl", **first | change)
    with pytest.raises(OtherRun, match=r"the set 'a' of .*sets\.jsonl has another prompt or other responses"):
        score.run(scoring(tmp_path))
    assert (tmp_path / "scored.jsonl").read_bytes() == before


def test_a_set_that_was_finished_differently_is_refused(tmp_path: Path, service: FakeTeacherService) -> None:
    for finished in (True, False):
        row = {"id": "a", "prompt": "p", "responses": [{"text": "yes", "finished": finished}]}
        (tmp_path / "sets.jsonl").write_text(json.dumps(row) + "\n")
        if finished:
            score.run(scoring(tmp_path))
    with pytest.raises(OtherRun, match="'a'"):
        score.run(scoring(tmp_path))


def test_truncate_continues_the_same_output(tmp_path: Path, service: FakeTeacherService) -> None:
    write_sets(tmp_path / "sets.jsonl", {"a": ["yes"]})
    score.run(scoring(tmp_path))
    write_sets(tmp_path / "sets.jsonl", {"a": ["yes"], "b": ["no"]})
    score.run(scoring(tmp_path, truncate=True))
    assert [each.id for each in read(tmp_path / "scored.jsonl", ScoredSet)] == ["a", "b"]


def test_a_comparison_is_of_the_texts_it_names(tmp_path: Path, service: FakeTeacherService) -> None:
    write_sets(tmp_path / "ours.jsonl", {"a": ["longer by far"]})
    write_sets(tmp_path / "theirs.jsonl", {"a": ["short"]})
    evaluate.win_rate(comparing(tmp_path))
    assert result_of(tmp_path)["mean_preference"] > 0.6
    write_sets(tmp_path / "ours.jsonl", {"a": ["short"]})
    evaluate.win_rate(comparing(tmp_path))
    assert result_of(tmp_path)["mean_preference"] == 0.5
    write_sets(tmp_path / "ours.jsonl", {"a": ["longer by far"]})
    asked = len(service.requests)
    evaluate.win_rate(comparing(tmp_path))
    assert result_of(tmp_path)["mean_preference"] > 0.6
    assert len(service.requests) == asked


def test_a_win_rate_counts_this_calls_rows_alone(
    tmp_path: Path, service: FakeTeacherService, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sets(tmp_path / "ours.jsonl", {name: ["longer"] for name in "abc"})
    write_sets(tmp_path / "theirs.jsonl", {name: ["short"] for name in "abc"})
    evaluate.win_rate(comparing(tmp_path))
    write_sets(tmp_path / "ours.jsonl", {"a": ["longer", "more"], "d": ["new"]})
    evaluate.win_rate(comparing(tmp_path))
    result = result_of(tmp_path)
    assert result["n"] == 1
    assert result["not_compared"] == {
        "prompts that the baseline lacks": 1,
        "prompts that the model lacks": 2,
        "responses without a counterpart": 1,
    }
    assert (
        "not compared: 1 prompts that the baseline lacks, 2 prompts that the model lacks" in capsys.readouterr().err
    )


def test_two_prompts_under_one_id_are_not_compared(tmp_path: Path, service: FakeTeacherService) -> None:
    write_sets(tmp_path / "ours.jsonl", {"a": ["yes"]})
    write_sets(tmp_path / "theirs.jsonl", {"a": ["no"]}, prompt="whose?")
    with pytest.raises(EvaluationError, match="the prompt 'a' of the model is another one than the baseline's"):
        evaluate.win_rate(comparing(tmp_path))


def test_a_file_with_an_id_twice_is_not_evaluated(tmp_path: Path, service: FakeTeacherService) -> None:
    sets = write_sets(tmp_path / "ours.jsonl", {"a": ["yes"]})
    sets.write_text(sets.read_text() * 2)
    with pytest.raises(EvaluationError, match="two sets have the id 'a'"):
        evaluate.grade(GradeSettings(grader="operator:contains", model=str(sets), out=tmp_path / "graded"))


def sampling(folder: Path, **changes: Any) -> SampleSettings:
    settings: dict[str, Any] = {"model": str(folder / "model"), "prompts": folder / "p.jsonl"}
    settings["out"] = folder / "sets.jsonl"
    return SampleSettings(**settings | {"n": 2, "max_new_tokens": 4} | changes)


def grading(folder: Path) -> GradeSettings:
    names: dict[str, Any] = {"model": str(folder / "model"), "prompts": folder / "p.jsonl", "out": folder / "graded"}
    return GradeSettings(grader="operator:contains", n=2, max_new_tokens=4, **names)


def answering(folder: Path) -> AnswerSettings:
    (folder / "q.json").write_text(json.dumps([{"instruction": "why?"}]))
    names: dict[str, Any] = {"model": str(folder / "model"), "questions": folder / "q.json"}
    return AnswerSettings(benchmark="alpaca-eval", out=folder / "answers.json", max_new_tokens=4, **names)


def winning(folder: Path) -> WinRateSettings:
    baseline = write_sets(folder / "theirs.jsonl", {"a": ["no"], "b": ["no"]}, prompt="why?")
    names: dict[str, Any] = {"model": str(folder / "model"), "prompts": folder / "p.jsonl", "out": folder / "won"}
    return WinRateSettings(teacher=["http://t"], baseline=str(baseline), n=1, max_new_tokens=4, **names)


COMMANDS: list[tuple[Callable[[Any], None], Callable[[Path], Any]]] = [
    (sample.run, sampling),
    (evaluate.grade, grading),
    (evaluate.answers, answering),
    (evaluate.win_rate, winning),
]


@pytest.mark.parametrize(("command", "settings"), COMMANDS)
@pytest.mark.parametrize("change", ["weights", "tokenizer"])
def test_responses_of_earlier_weights_are_not_reused(
    model: Path, tmp_path: Path, service: FakeTeacherService, command: Any, settings: Any, change: str
) -> None:
    write_prompts(tmp_path / "p.jsonl", {"a": "why?", "b": "why?"})
    command(settings(tmp_path))
    command(settings(tmp_path))
    if change == "weights":
        train_a_little(model)
    else:
        template = model / "chat_template.jinja"
        template.write_text(template.read_text() + " ")
    with pytest.raises(OtherRun, match=f"begun with another (model )?{change}"):
        command(settings(tmp_path))


@pytest.mark.parametrize(("command", "settings"), [COMMANDS[0], COMMANDS[1]])
def test_an_edited_prompt_is_refused_by_its_id(model: Path, tmp_path: Path, command: Any, settings: Any) -> None:
    write_prompts(tmp_path / "p.jsonl", {"a": "why?", "b": "who?"})
    command(settings(tmp_path))
    write_prompts(tmp_path / "p.jsonl", {"a": "why?", "b": "whose?"})
    with pytest.raises(OtherRun, match="the prompt 'b' is another one"):
        command(settings(tmp_path))


def test_a_grade_counts_this_calls_prompts_alone(model: Path, tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", {"a": "why?", "b": "who?"})
    evaluate.grade(grading(tmp_path))
    write_prompts(tmp_path / "p.jsonl", {"a": "why?"})
    evaluate.grade(grading(tmp_path))
    assert json.loads((tmp_path / "graded" / "result.json").read_text())["n"] == 1


@pytest.mark.parametrize(("command", "settings"), [(sample.run, sampling), (score.run, scoring)])
@pytest.mark.parametrize("content", ["dear diary", '{"id": "x", "prompt": "mine"}', "a\nb\n"])
def test_a_file_of_somebody_else_is_left_as_it_is(
    model: Path, tmp_path: Path, service: FakeTeacherService, command: Any, settings: Any, content: str
) -> None:
    write_prompts(tmp_path / "p.jsonl", {"a": "why?"})
    write_sets(tmp_path / "sets.jsonl", {"a": ["yes"]})
    asked = settings(tmp_path)
    asked.out.write_text(content)
    with pytest.raises(OtherRun, match="says how it was made"):
        command(asked)
    assert asked.out.read_text() == content


def test_answers_do_not_replace_another_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text("mine")
    with pytest.raises(OtherRun, match=r"answers\.json is there"):
        evaluate.answers(answering(tmp_path))
    assert (tmp_path / "answers.json").read_text() == "mine"


@pytest.mark.parametrize(("command", "settings"), [COMMANDS[0], COMMANDS[2], (score.run, scoring)])
def test_an_output_that_is_a_device_is_refused(
    model: Path, tmp_path: Path, command: Any, settings: Any, service: FakeTeacherService
) -> None:
    write_prompts(tmp_path / "p.jsonl", {"a": "why?"})
    asked = settings(tmp_path).model_copy(update={"out": Path("/dev/full")})
    with pytest.raises(JsonLinesError, match="/dev/full is no regular file"):
        command(asked)
