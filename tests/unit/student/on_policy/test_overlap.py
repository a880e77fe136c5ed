"""Sampling, scoring and training at the same time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from pad_student.on_policy import round_sampling
from pad_student.on_policy.rounds import Round
from pad_student.preference.config import PADConfig
from pad_student.storage import jsonl
from pad_student.storage.run_directory import newest_whole
from pad_student.teacher.errors import TeacherUnreachable
from pad_student.training.trainer import PADTrainer
from pad_wire import SampledSet, ScoredSet
from support.student_runs import Narrow, RuleTeacher, metrics, trainer, weights
from support.waiting import wait, wait_until


class Gated(RuleTeacher):
    """Answers a set only when its gate lets it."""

    def __init__(self, gate: Callable[[SampledSet], None]) -> None:
        super().__init__()
        self.gate = gate
        self.got: list[str] = []

    def score_stream(self, sets: Iterable[SampledSet], **options: Any) -> Iterator[ScoredSet]:
        for each in sets:
            self.got.append(each.id)
            self.gate(each)
            yield from super().score_stream([each], **options)


def sampling_calls(monkeypatch: pytest.MonkeyPatch, before: Callable[[list[str]], None]) -> None:
    original = round_sampling.sample_responses

    def watched(*args: Any, keys: list[str], **options: Any) -> Any:
        before(keys)
        return original(*args, keys=keys, **options)

    monkeypatch.setattr(round_sampling, "sample_responses", watched)


def training_calls(monkeypatch: pytest.MonkeyPatch, before: Callable[[PADTrainer], None]) -> None:
    original = PADTrainer.compute_loss

    def watched(self: PADTrainer, *args: Any, **options: Any) -> Any:
        before(self)
        return original(self, *args, **options)

    monkeypatch.setattr(PADTrainer, "compute_loss", watched)


def test_sets_reach_the_teacher_while_the_rest_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = Event()

    def before(keys: list[str]) -> None:
        if calls:
            wait(arrived)  # the second batch is not sampled before the first has reached the teacher
        calls.append(keys)

    calls: list[list[str]] = []
    sampling_calls(monkeypatch, before)
    trainer(tmp_path, Gated(lambda each: arrived.set()), max_steps=1, sampling_batch_size=2).train()
    assert [len(keys) for keys in calls] == [2, 1]


@pytest.mark.parametrize(
    "how",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "max_steps": 1},
        {"n": 8, "parts": 2, "decompose": "fixed", "max_steps": 2},
    ],
)
def test_training_begins_before_the_last_set_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    trained = Event()
    count = 3 * how["max_steps"]
    teacher = Gated(lambda each: wait(trained) if len(teacher.got) == count else None)
    training_calls(monkeypatch, lambda _: trained.set())
    trainer(tmp_path, teacher, **how).train()
    assert len(teacher.scored) == count


def test_at_staleness_1_sampling_runs_ahead_of_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Event()
    sampling_calls(monkeypatch, lambda keys: second.set() if keys[0].endswith("@1") else None)
    trainer(tmp_path, Gated(lambda each: wait(second)), staleness=1, max_steps=3).train()
    assert [line["staleness"] for line in metrics(tmp_path)] == [0, 1, 1]


def test_the_next_rounds_sets_are_on_disk_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def before(training: PADTrainer) -> None:
        seen.append((tmp_path / "rounds" / f"{training.state.global_step + 1:06d}" / "sets.jsonl").exists())

    training_calls(monkeypatch, before)
    trainer(tmp_path, RuleTeacher(), staleness=1, max_steps=4).train()
    assert seen == [True, True, True, False]


@pytest.mark.parametrize("staleness", range(10))
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_no_step_lags_more_than_staleness_or_one_decomposition(tmp_path: Path, staleness: int, parts: int) -> None:
    config = PADConfig(
        output_dir=str(tmp_path), use_cpu=True, staleness=staleness, n=12, parts=parts, decompose="fixed"
    )
    furthest = (1 + config.rounds_ahead) * config.steps_a_round - 1
    assert furthest <= max(staleness, parts - 1)
    assert config.rounds_ahead == (staleness + 1 >= 2 * parts)


@pytest.mark.parametrize("staleness", [0, 1])
@pytest.mark.parametrize("stop", [1, 4, 5, 11])
def test_a_teacher_lost_in_mid_step_lets_the_run_continue(tmp_path: Path, stop: int, staleness: int) -> None:
    how = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "staleness": staleness}
    whole = trainer(tmp_path / "whole", RuleTeacher(), **how)
    whole.train()
    away, back = RuleTeacher(patience=stop), RuleTeacher()
    with pytest.raises(TeacherUnreachable):
        trainer(tmp_path / "cut", away, **how).train()
    assert newest_whole(tmp_path / "cut") == (tmp_path / "cut" / f"checkpoint-{stop // 3}" if stop >= 3 else None)
    continued = trainer(tmp_path / "cut", back, **how)
    continued.train(resume_from_checkpoint=newest_whole(tmp_path / "cut"))
    assert torch.equal(weights(whole), weights(continued))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    assert sorted(away.scored + back.scored) == sorted({*away.scored, *back.scored})


def test_a_teacher_lost_in_mid_step_leaves_dropout_unchanged(tmp_path: Path) -> None:
    def run(folder: str, teacher: RuleTeacher) -> PADTrainer:
        built = trainer(tmp_path / folder, teacher, per_device_train_batch_size=1, gradient_accumulation_steps=3)
        for module in built.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.5
        return built

    whole = run("whole", RuleTeacher())
    whole.train()
    with pytest.raises(TeacherUnreachable):
        run("cut", RuleTeacher(5)).train()
    continued = run("cut", RuleTeacher())
    continued.train(resume_from_checkpoint=newest_whole(tmp_path / "cut"))
    assert torch.equal(weights(whole), weights(continued))


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_a_slow_teacher_changes_nothing_that_is_learnt(tmp_path: Path, staleness: int) -> None:
    how = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "staleness": staleness}
    how |= {"sampling_batch_size": 2}
    pause = Event()
    quick = trainer(tmp_path / "quick", RuleTeacher(), **how)
    slow = trainer(tmp_path / "slow", Gated(lambda each: pause.wait(0.002) and None), **how)
    for run in (quick, slow):
        run.train()
    assert torch.equal(weights(quick), weights(slow))
    assert metrics(tmp_path / "quick") == metrics(tmp_path / "slow")


def test_killed_sampling_leaves_no_scores_without_their_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Event()
    calls: list[list[str]] = []
    teacher = Gated(lambda each: second.set() if len(teacher.got) == 2 else None)

    def before(keys: list[str]) -> None:
        if calls:
            wait(second)  # the first batch's sets are with the teacher
            raise MemoryError
        calls.append(keys)

    sampling_calls(monkeypatch, before)
    with pytest.raises(MemoryError):
        trainer(tmp_path, teacher, sampling_batch_size=2).train()
    assert (tmp_path / "rounds" / "000000" / "scored.jsonl").read_bytes() == b""
    assert not (tmp_path / "rounds" / "000000" / "sets.jsonl").exists()


@pytest.mark.parametrize("torn", ["", '{"id": "p'])
def test_scores_from_before_a_kill_are_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    early = tmp_path / "rounds" / "000000" / "scored.early"
    first, second = RuleTeacher(), RuleTeacher()

    def before(keys: list[str]) -> None:
        if len(calls) == 1:
            wait_until(lambda: early.read_text().count("\n") == 2)
            raise MemoryError
        calls.append(keys)

    calls: list[list[str]] = []
    sampling_calls(monkeypatch, before)
    with pytest.raises(MemoryError):
        trainer(tmp_path, first, sampling_batch_size=2, max_steps=1).train()
    with early.open("a") as file:
        file.write(torn)
    calls.append([])
    trainer(tmp_path, second, sampling_batch_size=2, max_steps=1).train()
    assert len(first.scored) == 2
    assert sorted(first.scored + second.scored) == sorted({*first.scored, *second.scored})
    assert len(list(jsonl.read(early.with_suffix(".jsonl"), ScoredSet))) == 3
    assert not early.exists()


def test_micro_batches_of_too_long_sets_do_not_end_the_run(tmp_path: Path) -> None:
    how = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
    trainer(tmp_path, Narrow(), **how, max_steps=4).train()
    assert len(metrics(tmp_path)) == 4


def test_micro_batches_after_the_last_scored_set_are_empty() -> None:
    class Some:
        def score_of(self, identifier: str) -> str | None:
            return None if identifier in ("b", "c") else identifier

    round_ = Round(0, {0: ["a", "d", "b", "c"]}, {0: 3}, Some())  # type: ignore[arg-type]
    assert list(round_.scored(0)) == [["a", "d"], [], []]
    assert list(round_.scored(0, frozenset({0}))) == [["d"], [], []]
