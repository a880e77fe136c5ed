"""A run keeps samples from before and after, what they were preferred by, what it cost, and leaves training alone."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from pad_student.evaluation.report.collect import collect
from pad_student.evaluation.report.page import build
from pad_student.teacher.errors import TeacherUnreachable
from pad_student.training.before_after import BeforeAfterSamples
from pad_student.training.callbacks import ProgressBar
from pad_student.training.trainer import PADTrainer
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.student_runs import PROMPTS, RuleTeacher, metrics, scored, trainer, weights

ENCODER = ChatEncoder.of(byte_tokenizer())


class AbsentTeacher(RuleTeacher):
    def score_stream(self, sets: Iterable[SampledSet], **_: Any) -> Iterator[ScoredSet]:
        raise TeacherUnreachable("the teacher is away")


def trained(folder: Path, teacher: Any = None, dataset: Any = None, **changes: Any) -> PADTrainer:
    made = trainer(folder, teacher or (None if dataset else RuleTeacher()), dataset, **changes)
    rows: Any = made.train_dataset
    made.add_callback(BeforeAfterSamples(rows, 3, ENCODER, made.args, teacher, made.gathered_weights))
    made.train()
    return made


def shown(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "shown.jsonl").read_text().splitlines()]


def test_chosen_prompts_are_answered_before_and_after_training(tmp_path: Path) -> None:
    trained(tmp_path, RuleTeacher())
    before, after = shown(tmp_path)[:3], shown(tmp_path)[3:]
    assert [line["id"] for line in before] == ["p0@0", "p4@0", "p8@0"]
    assert [line["id"] for line in after] == ["p0@6", "p4@6", "p8@6"]
    for one, other in zip(before, after, strict=True):
        assert one["compared"] == other["compared"]
        assert one["rewards_teacher"] == other["rewards_teacher"]
        assert one["rewards_student"] != other["rewards_student"]
        assert [r["text"] for r in one["compared"]["responses"]] == [r["text"] for r in one["samples"]]


def test_showing_samples_changes_nothing_that_is_learnt(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "plain", RuleTeacher())
    plain.train()
    assert torch.equal(weights(plain), weights(trained(tmp_path / "shown", RuleTeacher())))
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "shown")


def test_a_run_that_computes_in_16_bits_is_shown_too(tmp_path: Path) -> None:
    trained(tmp_path, RuleTeacher(), max_steps=1, bf16=True)
    assert [line["step"] for line in shown(tmp_path)] == [0, 0, 0, 1, 1, 1]


def test_a_run_begun_again_keeps_what_it_showed_first(tmp_path: Path) -> None:
    trained(tmp_path, RuleTeacher(), max_steps=2, save_steps=100)
    first = shown(tmp_path)
    trained(tmp_path, RuleTeacher(), max_steps=2, save_steps=100)
    assert shown(tmp_path) == first
    assert len((tmp_path / "starts.jsonl").read_text().splitlines()) == 2


def test_scored_sets_are_compared_as_given_without_a_teacher(tmp_path: Path) -> None:
    texts = ["yes", "no way"]
    sets = [
        scored(SampledSet(id=each["id"], prompt=each["prompt"], responses=[Response(text=text) for text in texts]))
        for each in PROMPTS
    ]
    trained(tmp_path, None, sets, n=2)
    lines = shown(tmp_path)
    assert [response["text"] for response in lines[0]["compared"]["responses"]] == texts
    assert all("samples_rewards_teacher" not in line for line in lines)
    assert all(len(sample["text"]) <= len("no way") + 1 for line in lines for sample in line["samples"])
    assert collect(tmp_path).teacher == {"model": "fake", "fingerprint": "f"}


def test_a_teacher_lost_at_the_end_costs_samples_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = trainer(tmp_path, RuleTeacher(), max_steps=2)
    rows: Any = made.train_dataset
    made.add_callback(BeforeAfterSamples(rows, 3, ENCODER, made.args, AbsentTeacher()))
    made.train()
    assert made.state.global_step == 2
    assert "will lack samples" in caplog.text
    assert "No prompts were answered" in build(collect(tmp_path))


def test_every_step_says_what_it_took(tmp_path: Path) -> None:
    trained(tmp_path, RuleTeacher())
    lines = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(
        min(line[f"seconds/{name}"] for name in ("sampled", "waited_for_teacher", "trained")) >= 0 for line in lines
    )


def test_the_bar_shows_loss_and_waits_and_continues_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, RuleTeacher(), max_steps=4, disable_tqdm=False)
    line = capsys.readouterr().err.rpartition("\r")[2]
    assert all(said in line for said in ("4/4", "round=4", "loss=", "agreement=", "teacher wait="))
    made = trainer(tmp_path, RuleTeacher(), disable_tqdm=False)
    bar = next(each for each in made.callback_handler.callbacks if isinstance(each, ProgressBar))
    made.state.global_step, made.state.max_steps = 4, 6
    bar.on_train_begin(made.args, made.state, made.control)
    assert bar.training_bar is not None
    assert bar.training_bar.initial == 4
    bar.training_bar.close()


def test_the_card_names_base_teacher_and_figures(tmp_path: Path) -> None:
    made = trained(tmp_path, RuleTeacher())
    made.create_model_card(model_name="mine", license="mit")
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.model_name, card.data.license, card.data.library_name) == ("mine", "mit", "transformers")
    assert "agreement/pairwise" in card.text
    assert "`fake`" in card.text
