"""Stages continue where they were stopped: nothing is lost, nothing is done twice."""

import json
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from pad_student.commands import evaluate, sample, score, train
from pad_student.commands.settings import GradeSettings, SampleSettings, ScoreSettings, TrainSettings, WinRateSettings
from pad_student.errors import EvaluationError, JsonLinesError, OtherRun, SamplingError, TrackerMissing
from pad_student.evaluation.grading import estimate, load_grader, win
from pad_student.evaluation.length_control import length_controlled
from pad_student.sampling import generate as sampling
from pad_student.storage.jsonl import read
from pad_student.teacher.client import Teacher, TeacherChanged, TeacherUnreachable
from pad_wire import SampledSet, ScoredSet
from support.fake_teacher import FakeTeacherService, error
from support.tiny_student import save_tiny_student


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return str(save_tiny_student(tmp_path_factory.mktemp("student")))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"id": f"p{i}", "prompt": "why " * i + "?"}) + b"\n" for i in range(5)))
    return path


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    path = tmp_path / "sets.jsonl"
    rows = [{"id": f"s{i}", "prompt": "which?", "responses": ["yes", f"no {i}"]} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sample_settings(model: Any, prompts: Any, out: Any, **changes: Any) -> SampleSettings:
    return SampleSettings(
        model=model, prompts=prompts, out=out, n=2, max_new_tokens=8, batch_size=2, temperature=1.0, **changes
    )


def use(monkeypatch: pytest.MonkeyPatch, fake: Any, stage: Any = score) -> None:
    def connect(settings: Any, fingerprint: Any = None) -> Teacher:
        return Teacher(settings.urls, fingerprint=fingerprint, transport=fake.transport)

    monkeypatch.setattr(stage, "connect", connect)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_every_prompt_gets_its_set(
    model: Any, prompts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sets.jsonl"
    sample.run(sample_settings(model, prompts, out))
    assert [(each.id, len(each.responses)) for each in read(out, SampledSet)] == [(f"p{i}", 2) for i in range(5)]
    assert "sets.jsonl: 2 responses a prompt" in capsys.readouterr().err


def test_a_command_that_wrote_nothing_may_be_corrected(model: Any, prompts: Any, tmp_path: Path) -> None:
    out = tmp_path / "sets.jsonl"
    with pytest.raises(SamplingError, match="no such model directory"):
        sample.run(sample_settings(f"{model}/nothing", prompts, out))
    sample.run(sample_settings(model, prompts, out))
    with pytest.raises(OtherRun, match="seed"):
        sample.run(sample_settings(model, prompts, out, seed=5))


def test_a_tracker_that_is_not_installed_is_one_line(model: Any, sets: Any, tmp_path: Path) -> None:
    scored = tmp_path / "scored.jsonl"
    row = {"text": "yes", "log_likelihood": -2.0, "tokens": 2, "mean_log_likelihood": -1.0}
    teacher = {"model": "t", "fingerprint": "f"}
    scored.write_text(json.dumps({"id": "a", "prompt": "why?", "responses": [row, row], "teacher": teacher}) + "\n")
    trainer = {"report_to": "wandb", "use_cpu": True}
    settings = TrainSettings(model=model, scored=scored, out=tmp_path / "out", alpha=0, trainer=trainer)
    with pytest.raises(TrackerMissing, match="requires wandb"):
        train.run(settings)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.75, 0.99])
def test_a_run_killed_anywhere_continues_to_the_very_same_file(
    model: Any, prompts: Any, tmp_path: Path, share: Any
) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    sample.run(sample_settings(model, prompts, whole))
    content = whole.read_bytes()
    torn.write_bytes(content[: int(len(content) * share)])
    (tmp_path / "torn.jsonl.settings.json").write_bytes((tmp_path / "whole.jsonl.settings.json").read_bytes())
    sample.run(sample_settings(model, prompts, torn))
    assert torn.read_bytes() == content


def test_a_finished_output_is_left_alone_and_no_model_is_loaded(
    model: Any, prompts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sets.jsonl"
    sample.run(sample_settings(model, prompts, out))
    content = out.read_bytes()
    monkeypatch.setattr(sampling, "load_student", lambda name: pytest.fail("loaded"))
    sample.run(sample_settings(model, prompts, out))
    assert out.read_bytes() == content


def test_prompts_without_room_are_skipped_and_counted(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "sets.jsonl"
    prompts.write_text(json.dumps({"id": "long", "prompt": "x" * 80}) + '\n{"id": "short", "prompt": "x"}\n')
    sample.run(sample_settings(model, prompts, out))
    assert [each.id for each in read(out, SampledSet)] == ["short"]
    assert "1 prompts skipped" in capsys.readouterr().err


def test_interrupted_scoring_continues_without_loss_or_repeat(
    sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scored.jsonl"
    settings = ScoreSettings(teacher="http://t", sets=sets, out=out)
    broken = FakeTeacherService()
    served, answer = [], broken.answer

    def dies(request: Any) -> httpx.Response:
        served.append(request)
        first = b'"s0"' in request.content  # requests run side by side: the one written first may come late
        return answer(request) if first or len(served) < 4 else error(500, "internal")(request)

    broken.transport.handler = dies
    use(monkeypatch, broken)
    with pytest.raises(TeacherUnreachable):
        score.run(settings)
    before = [each.id for each in read(out, ScoredSet)]
    assert before
    out.write_bytes(out.read_bytes() + b'{"id": "s9')

    whole = FakeTeacherService()
    use(monkeypatch, whole)
    score.run(settings)
    assert [each.id for each in read(out, ScoredSet)] == [f"s{i}" for i in range(40)]
    asked = [each["id"] for body in whole.bodies for each in body["sets"]]
    assert sorted(asked + before) == sorted(f"s{i}" for i in range(40))


def test_another_teacher_cannot_continue_an_output(
    sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scored.jsonl"
    use(monkeypatch, FakeTeacherService())
    score.run(ScoreSettings(teacher="http://t", sets=sets, out=out))
    with sets.open("a") as file:
        file.write('{"id": "new", "prompt": "p", "responses": ["r"]}\n')
    use(monkeypatch, FakeTeacherService(fingerprint="fp-2"))
    with pytest.raises(TeacherChanged):
        score.run(ScoreSettings(teacher="http://t", sets=sets, out=out))


def test_a_bad_set_is_found_before_any_is_scored(sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sets.open("a") as file:
        file.write('{"id": "s3", "prompt": "p", "responses": ["r"]}\n')
    fake = FakeTeacherService()
    use(monkeypatch, fake)
    with pytest.raises(JsonLinesError, match="two sets have the id 's3'"):
        score.run(ScoreSettings(teacher="http://t", sets=sets, out=tmp_path / "scored.jsonl"))
    assert fake.requests == []


def test_gold_score_is_the_mean_of_prompts_with_its_error(
    sets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text("def grade(prompt, response):\n    return float(response == 'yes' or response.endswith('1'))\n")
    out = tmp_path / "graded"
    evaluate.grade(GradeSettings(grader=f"{rule}:grade", model=str(sets), out=out))
    result = json.loads((out / "result.json").read_text())
    grades = [json.loads(line)["mean"] for line in (out / "grades.jsonl").read_text().splitlines()]
    assert grades == [1.0 if i % 10 == 1 else 0.5 for i in range(40)]
    assert result["gold_score"] == pytest.approx(0.55)
    assert result["standard_error"] == pytest.approx(estimate(grades).standard_error)
    assert result["n"] == 40
    assert "gold score 0.5500" in capsys.readouterr().out


def test_a_model_is_sampled_and_graded(model: Any, prompts: Any, tmp_path: Path) -> None:
    out = tmp_path / "graded"
    settings = GradeSettings(
        grader="operator:contains", model=model, prompts=prompts, out=out, n=2, max_new_tokens=4, temperature=1.0
    )
    evaluate.grade(settings)
    assert json.loads((out / "result.json").read_text())["n"] == 5
    with pytest.raises(Exception, match="another seed"):
        evaluate.grade(settings.model_copy(update={"seed": 1}))


def test_win_rate_asks_in_both_orders_and_counts_ties_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, out = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl", tmp_path / "won"
    for path, texts in ((ours, ["longer", "same", "less"]), (theirs, ["long", "same", "lesser"])):
        rows = [{"id": str(i), "prompt": "p", "responses": [text]} for i, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fake = FakeTeacherService()
    use(monkeypatch, fake, evaluate)
    settings = WinRateSettings(teacher="http://t", model=str(ours), baseline=str(theirs), out=out)
    evaluate.win_rate(settings)
    result = json.loads((out / "result.json").read_text())
    assert (result["win_rate"], result["n"], result["teacher"]) == (0.5, 3, "fp-1")
    assert result["standard_error"] == pytest.approx(0.5 / 3**0.5)
    assert result["model_lengths"]["mean_characters"] == pytest.approx(14 / 3)
    assert (fake.bodies[0]["form"], fake.bodies[0]["orders"]) == ("pairwise", "both")
    asked = len(fake.requests)
    evaluate.win_rate(settings)
    assert len(fake.requests) == asked


def test_a_win_rate_controls_for_length_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    for path, texts in ((ours, ["longer", "longest", "less"]), (theirs, ["long", "long", "lesser"])):
        rows = [{"id": str(i), "prompt": "p", "responses": [text]} for i, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    use(monkeypatch, FakeTeacherService(), evaluate)
    settings = WinRateSettings(judge="http://t", model=str(ours), baseline=str(theirs), out=tmp_path / "won")
    evaluate.win_rate(settings)
    evaluate.win_rate(settings.model_copy(update={"length_controlled": True}))
    result = json.loads((tmp_path / "won" / "result.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "won" / "comparisons.jsonl").read_text().splitlines()]
    expected = length_controlled([row["preference"] for row in rows], [(6, 4), (7, 4), (4, 6)])
    assert result["length_controlled_win_rate"] == pytest.approx(expected.win_rate)
    assert result["judge_is_its_teacher"] is None


def test_a_judge_that_was_the_teacher_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text('{"id": "0", "prompt": "p", "responses": ["yes"]}\n')
    use(monkeypatch, FakeTeacherService(), evaluate)
    monkeypatch.setattr(evaluate, "fingerprint_so_far", lambda folder: "fp-1")
    evaluate.win_rate(WinRateSettings(teacher="http://t", model=str(path), baseline=str(path), out=tmp_path / "won"))
    assert json.loads((tmp_path / "won" / "result.json").read_text())["judge_is_its_teacher"] is True
    assert "was trained by the service that judged it" in capsys.readouterr().err


def test_without_a_judge_a_win_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="give --teacher or --judge"):
        WinRateSettings(model="a.jsonl", baseline="b.jsonl", out="won")


@pytest.mark.parametrize(("preference", "value"), [(0.5, 0.5), (0.5000001, 0.5), (0.6, 1.0), (0.4, 0.0)])
def test_a_tie_is_half_a_win(preference: Any, value: Any) -> None:
    assert win(preference) == value


@pytest.mark.parametrize("name", ["math", "math:nothing", "no_such_module:grade", "no/such/file.py:grade"])
def test_a_grader_that_is_not_there_is_one_line(name: Any) -> None:
    with pytest.raises(EvaluationError) as caught:
        load_grader(name)
    assert "\n" not in str(caught.value)
