"""``--dry-run`` measures one micro-batch or request, says what the whole would take, and writes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import common, distill, score, train
from pad_student.commands.settings import DistillSettings, ScoreSettings, TrainSettings
from pad_student.errors import OtherRun
from pad_student.teacher.client import Teacher, TeacherChanged, TeacherRefused
from support.fake_teacher import FakeTeacherService, error
from support.tiny_student import save_tiny_student


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_student(tmp_path_factory.mktemp("student")))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FakeTeacherService:
    service = getattr(request, "param", FakeTeacherService)()

    def connect(settings: Any, fingerprint: Any = None, *_: Any) -> Teacher:
        return Teacher(settings.teacher, fingerprint=fingerprint, transport=service.transport)

    for stage in (common, score, distill):
        monkeypatch.setattr(stage, "connect", connect)
    return service


def lines_of(text: str) -> dict[str, str]:
    return {line[:8].strip(): line[9:] for line in text.splitlines()[:-1]}


@pytest.mark.usefixtures("fake")
def test_a_dry_run_of_distill_counts_everything(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"say {'abcdefghij'[k]}"} for k in range(10)] + [{"prompt": "too long " * 20}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = DistillSettings(
        model=model,
        teacher=["http://t"],
        prompts=prompts,
        output_dir=tmp_path / "run",
        prompts_per_step=4,
        max_response_tokens=5,
        max_prompt_characters=50,
        dry_run=True,
        trainer={"use_cpu": True, "disable_tqdm": True, "num_train_epochs": 2},
    )
    distill.run(settings)
    out = capsys.readouterr().out
    said = lines_of(out)
    assert said["rows"].startswith("10 of 11 used; ")
    assert "over max_prompt_characters = 50" in said["rows"]
    assert said["steps"] == "6 of 4 prompts"
    assert said["teacher"].startswith("fake: about ")
    assert "measured on 4 prompts" in said["time"]
    assert "2 checkpoints" not in said["disk"]
    assert "1 checkpoints" in said["disk"]
    assert out.endswith("nothing was written\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompts.jsonl"]


def scored_file(folder: Path, count: int, texts: tuple[str, ...] = ("yes", "no")) -> Path:
    numbers = {"log_likelihood": -2.0, "tokens": 2, "mean_log_likelihood": -1.0, "selection_probability": 0.5}
    responses = [{"text": text, **numbers} for text in texts]
    rest = {"responses": responses, "label_mass": 0.9, "teacher": {"model": "t", "fingerprint": "f"}}
    scored = folder / "scored.jsonl"
    scored.write_text("".join(json.dumps({"id": f"s{k}", "prompt": "why?", **rest}) + "\n" for k in range(count)))
    return scored


def test_a_dry_run_of_train_needs_no_teacher(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = scored_file(tmp_path, 8)
    trainer = {"use_cpu": True, "disable_tqdm": True, "eval_steps": 2, "load_best_model_at_end": True}
    settings = {"model": model, "scored": scored, "out": tmp_path / "run", "eval_prompts": scored, "trainer": trainer}
    train.run(TrainSettings(**settings, prompts_per_step=4, dry_run=True))
    said = lines_of(capsys.readouterr().out)
    assert (said["rows"], said["steps"]) == ("8 of 8 used", "2 of 4 prompts")
    assert "teacher" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["scored.jsonl"]


def test_a_dry_run_counts_each_part_of_a_set_once(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = scored_file(tmp_path, 6, ("yes", "no", "why", "now"))
    settings = {"model": model, "scored": scored, "out": tmp_path / "run", "parts": 2, "prompts_per_step": 4}
    trainer = {"use_cpu": True, "disable_tqdm": True}
    train.run(TrainSettings(**settings, trainer=trainer, dry_run=True))
    said = lines_of(capsys.readouterr().out)
    assert (said["rows"], said["steps"]) == ("12 of 12 used; each set is 2 rows, one a part", "3 of 4 prompts")
    train.run(TrainSettings(**settings, trainer=trainer))
    (start,) = map(json.loads, (tmp_path / "run" / "starts.jsonl").read_text().splitlines())
    assert start["max_steps"] == 3


def test_a_dry_run_of_score_asks_about_a_few_sets(
    fake: FakeTeacherService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = tmp_path / "sets.jsonl"
    rows = [{"id": f"s{k}", "prompt": "which?", "responses": ["yes", "no"]} for k in range(40)]
    sets.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score.run(ScoreSettings(teacher=["http://t"], sets=sets, out=tmp_path / "scored.jsonl", dry_run=True))
    said = lines_of(capsys.readouterr().out)
    assert said["sets"] == "40 to score, 0 are scored already"
    assert said["teacher"] == "fake: about 60 tokens (6 for 4 sets)"
    assert [len(body["sets"]) for body in fake.bodies] == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["sets.jsonl"]


def sets_file(folder: Path, longest: str = "no", last: tuple[str, ...] = ()) -> Path:
    rows = [{"id": f"s{k}", "prompt": "which?", "responses": ["yes", f"no {k}"]} for k in range(8)]
    rows += [{"id": "long", "prompt": "which?", "responses": ["yes", longest]}]
    rows += [{"id": "many", "prompt": "which?", "responses": list(last)}] if last else []
    path = folder / "sets.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Limited(FakeTeacherService):
    """Refuses long texts, and sets of many responses, as a service does."""

    def answer(self, request: Any) -> Any:
        sets = json.loads(request.content or b"{}").get("sets", [])
        if any(len(each["responses"]) > 3 for each in sets):
            return error(422, "too_many_options")(request)
        if any(len(text["text"]) > 50 for each in sets for text in each["responses"]):
            return error(422, "too_long")(request)
        return super().answer(request)


@pytest.mark.parametrize("fake", [Limited], indirect=True)
def test_a_dry_run_of_score_meets_the_refusals_of_a_run(
    fake: FakeTeacherService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: Any = {"teacher": ["http://t"], "out": tmp_path / "scored.jsonl", "dry_run": True}
    sets = sets_file(tmp_path, "no" * 50)
    score.run(ScoreSettings(sets=sets, **settings))
    said = lines_of(capsys.readouterr().out)
    assert said["refused"] == "of 5 sets asked, the largest among them; 1 sets refused by the teacher (too_long 1)"
    assert said["teacher"] == "fake: about 14 tokens (6 for 4 sets)"
    with pytest.raises(TeacherRefused, match="because"):
        score.run(ScoreSettings(sets=sets, on_refused="stop", **settings))
    with pytest.raises(TeacherRefused, match="because") as refused:
        score.run(ScoreSettings(sets=sets_file(tmp_path, last=("a", "b", "c", "d")), **settings))
    assert refused.value.code == "too_many_options"


def test_a_dry_run_of_score_refuses_what_a_run_would_refuse(
    fake: FakeTeacherService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.jsonl"
    settings: Any = {"teacher": ["http://t"], "sets": sets_file(tmp_path), "out": out}
    score.run(ScoreSettings(**settings))
    with out.open("a") as file:
        file.write('{"id": "to')  # a kill
    score.run(ScoreSettings(**settings, dry_run=True))
    assert lines_of(capsys.readouterr().out)["sets"] == "0 to score, 9 are scored already"
    for changes, message in (({"alpha": 0.5}, "alpha"), ({"orders": "both"}, "orders")):
        with pytest.raises(OtherRun, match=message):
            score.run(ScoreSettings(**settings, **changes, dry_run=True))
    fake.fingerprint = "another"
    with pytest.raises(TeacherChanged):
        score.run(ScoreSettings(**settings, dry_run=True))
    sets_file(tmp_path, "maybe")
    with pytest.raises(OtherRun, match="'long'"):
        score.run(ScoreSettings(**settings, dry_run=True))


def test_a_dry_run_of_training_refuses_another_runs_output(model: str, tmp_path: Path) -> None:
    settings: Any = {"model": model, "scored": scored_file(tmp_path, 4), "out": tmp_path / "run"}
    settings |= {"prompts_per_step": 4, "trainer": {"use_cpu": True, "disable_tqdm": True}}
    train.run(TrainSettings(**settings))
    with pytest.raises(OtherRun, match="seed"):
        train.run(TrainSettings(**settings, seed=5, dry_run=True))


@pytest.mark.usefixtures("fake")
def test_a_dry_run_of_distill_tries_the_teachers_template(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "try_template", lambda *given: given[-1]("the template was tried"))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"say {k}"}) + "\n" for k in "abcd"))
    settings: Any = {"model": model, "teacher": ["http://t"], "prompts": prompts, "output_dir": tmp_path / "run"}
    settings |= {"prompts_per_step": 2, "max_response_tokens": 5, "dry_run": True}
    distill.run(DistillSettings(**settings, trainer={"use_cpu": True, "disable_tqdm": True}))
    assert "the template was tried" in lines_of(capsys.readouterr().out)["rows"]
