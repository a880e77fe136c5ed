"""A run keeps samples from before and after, what they were preferred by, what it cost, and leaves training alone."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from pad_student.evaluation.report.collect import collect
from pad_student.evaluation.report.page import build
from pad_student.on_policy.costs import Costs
from pad_student.storage.terminal.status import Status
from pad_student.teacher.errors import TeacherUnreachable
from pad_student.training.before_after import BeforeAfterSamples
from pad_student.training.callbacks import ProgressBar, why_slow
from pad_student.training.trainer import PADTrainer
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.student_runs import PROMPTS, RuleTeacher, metrics, scored, trainer, weights
from support.token_teacher import PAIRS, TokenTeacher

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


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_a_run_of_a_token_method_shows_likelihoods_alone(tmp_path: Path, method: str) -> None:
    class Asked(TokenTeacher):
        tops: list[Any] = []  # noqa: RUF012 -- of this test

        def score_stream(self, sets: Any, *_: Any, options: Any = None, refusals: Any = None, **__: Any) -> Any:
            if refusals is None:  # no round
                self.tops.append(options.token_top)
            return super().score_stream(sets)

    trained(tmp_path, Asked(), PAIRS, method=method, n=2, top_k=10, max_steps=2)
    assert set(Asked.tops) == {None}
    assert all(reward < 0 for line in shown(tmp_path) for reward in line["rewards_teacher"])
    assert not any("token_tables" in line["compared"] for line in shown(tmp_path))


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


def test_the_last_line_shows_loss_and_waits_and_the_steps_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, RuleTeacher(), max_steps=4, disable_tqdm=False)
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(said in line for said in ("step 4/4", "loss ", "agree ", "wait ", " %"))
    status = Status()
    bar = ProgressBar(Costs(), status)
    made = trainer(tmp_path, RuleTeacher(), disable_tqdm=False)
    made.state.global_step, made.state.max_steps, made.state.is_world_process_zero = 4, 6, True
    bar.on_train_begin(made.args, made.state, made.control)
    assert status.line() == "step 4/6"
    bar.close()


def test_a_slow_step_names_what_took_long_and_remedies() -> None:
    args = SimpleNamespace(
        per_device_train_batch_size=4, gradient_accumulation_steps=8, world_size=1, n=4, max_response_tokens=1024
    )
    said = why_slow({"sampled": 50.4, "waited_for_teacher": 0.2, "trained": 10.0}, args)
    assert "50 s sampling, 10 s training. To make steps shorter, lower max_response_tokens (1024)" in said
    assert "staleness" in why_slow({"sampled": 1.0, "waited_for_teacher": 60.0, "trained": 1.0}, args)


def test_the_card_names_base_teacher_and_figures(tmp_path: Path) -> None:
    made = trained(tmp_path, RuleTeacher())
    made.create_model_card(model_name="mine", license="mit")
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.model_name, card.data.license, card.data.library_name) == ("mine", "mit", "transformers")
    assert "agreement/pairwise" in card.text
    assert "`fake`" in card.text
