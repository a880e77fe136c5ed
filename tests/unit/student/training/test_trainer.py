"""Training on the student's own samples: rounds, checkpoints, metrics."""

import shutil
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from peft import LoraConfig

from pad_student.errors import ConfigError, DatasetError, OtherRun
from pad_student.on_policy import round_sampling
from pad_student.preference.config import PADConfig
from pad_student.storage import jsonl
from pad_student.storage.run_directory import newest_whole
from pad_student.teacher.client import Teacher
from pad_student.teacher.errors import TeacherChanged, TeacherUnreachable
from pad_student.training import run_logs
from pad_student.training.trainer import PADTrainer
from pad_wire import SampledSet
from support.fakes import byte_tokenizer
from support.student_runs import (
    PROMPTS,
    TEACHER,
    Narrow,
    RuleTeacher,
    config,
    metrics,
    round_names,
    scored_sets,
    trainer,
    weights,
)
from support.tiny import tiny_model


def test_every_step_is_sampled_from_the_student_and_scored_once(tmp_path: Path) -> None:
    teacher = RuleTeacher()
    trainer(tmp_path, teacher).train()
    assert len(teacher.scored) == 6 * 3
    assert len(set(teacher.scored)) == 6 * 3
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert round_names(tmp_path) == [f"{k:06d}" for k in range(6)]


def test_staleness_samples_several_steps_but_none_past_the_last(tmp_path: Path) -> None:
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, staleness=7).train()
    assert round_names(tmp_path) == ["000000", "000004"]
    assert len(teacher.scored) == 6 * 3


@pytest.mark.parametrize("staleness", [0, 1, 3])
@pytest.mark.parametrize("stop", [1, 7, 11])
def test_a_run_that_lost_its_teacher_continues_to_the_same_end(tmp_path: Path, stop: int, staleness: int) -> None:
    whole = trainer(tmp_path / "whole", RuleTeacher(), staleness=staleness)
    whole.train()
    away = RuleTeacher(patience=stop)
    with pytest.raises(TeacherUnreachable):
        trainer(tmp_path / "cut", away, staleness=staleness).train()
    back = RuleTeacher()
    continued = trainer(tmp_path / "cut", back, staleness=staleness)
    continued.train(resume_from_checkpoint=newest_whole(tmp_path / "cut"))
    assert torch.equal(weights(whole), weights(continued))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    assert len(away.scored + back.scored) == len({*away.scored, *back.scored}) == 6 * 3


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"staleness": 1},
        {"staleness": 3},
        {"staleness": 5},
        {"n": 8, "parts": 2, "decompose": "fixed"},
        {"n": 8, "parts": 2},
    ],
)
@pytest.mark.parametrize("last", [2, 4])
def test_a_killed_run_repeats_exactly_without_a_teacher(tmp_path: Path, last: int, how: dict[str, Any]) -> None:
    whole = trainer(tmp_path, RuleTeacher(), save_total_limit=None, **how)
    whole.train()
    for step in range(last + 1, 7):  # as if killed after step 6, with an older checkpoint
        shutil.rmtree(tmp_path / f"checkpoint-{step}", ignore_errors=True)
    nobody = RuleTeacher(patience=0)
    continued = trainer(tmp_path, nobody, **how)
    continued.train(resume_from_checkpoint=newest_whole(tmp_path))
    assert torch.equal(weights(whole), weights(continued))
    assert len(metrics(tmp_path)) == 6


def test_a_prompt_without_a_response_leaves_steps_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = round_sampling.sample_responses

    def without_p3(*args: Any, keys: list[str], **options: Any) -> Any:
        sampled = original(*args, keys=keys, **options)
        return [[] if key.startswith("p3@") else given for key, given in zip(keys, sampled, strict=True)]

    monkeypatch.setattr(round_sampling, "sample_responses", without_p3)
    single = trainer(tmp_path, RuleTeacher(), per_device_train_batch_size=1, gradient_accumulation_steps=4)
    single.train()
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    pairs = trainer(
        tmp_path / "pairs", RuleTeacher(), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=9
    )
    pairs.train()
    assert pairs.state.global_step == 9
    assert len(metrics(tmp_path / "pairs")) == 9


def test_a_set_past_the_teachers_context_is_left_out(tmp_path: Path) -> None:
    trainer(tmp_path, Narrow()).train()
    assert len(metrics(tmp_path)) == 6


@pytest.mark.parametrize(
    "how", [{"staleness": 3}, {"staleness": 7}, {"n": 8, "parts": 2, "decompose": "fixed"}, {"staleness": 1}]
)
def test_a_run_that_lost_its_teacher_late_may_get_more_steps(tmp_path: Path, how: dict[str, Any]) -> None:
    with pytest.raises(TeacherUnreachable):
        trainer(tmp_path, RuleTeacher(7), **how, max_steps=3).train()
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, **how, max_steps=6).train(resume_from_checkpoint=newest_whole(tmp_path))
    assert len(metrics(tmp_path)) == 6
    assert len(teacher.scored) == 6 * 3 - 7


def test_another_teacher_than_that_of_stored_rounds_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, RuleTeacher(), max_steps=1).train()
    with Teacher("http://t.test", fingerprint="another") as other, pytest.raises(TeacherChanged, match="another"):
        trainer(tmp_path, other)
    with Teacher("http://t.test") as unknown:
        trainer(tmp_path, unknown)
        assert unknown.fingerprint == TEACHER.fingerprint


def test_rounds_of_other_settings_are_never_reused(tmp_path: Path) -> None:
    trainer(tmp_path, RuleTeacher())
    for changed in ({"temperature": 1.0}, {"seed": 1}, {"per_device_train_batch_size": 2}, {"alpha": 0.0}):
        with pytest.raises(OtherRun):
            trainer(tmp_path, RuleTeacher(), **changed)
    with pytest.raises(OtherRun, match="prompts"):
        trainer(tmp_path, RuleTeacher(), dataset=PROMPTS[:6])
    trainer(tmp_path, RuleTeacher(), learning_rate=1e-5)


def test_scores_of_texts_that_the_teacher_cut_are_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = scored_sets()
    cut = sets[0].responses[0].model_copy(update={"truncated": True})
    sets[0] = sets[0].model_copy(update={"responses": [cut, *sets[0].responses[1:]]})
    assert len(trainer(tmp_path, dataset=sets).train_dataset) == 11
    assert "1 rows exceed" in caplog.text


def test_an_adapter_starts_from_equal_weights_at_the_same_seed(tmp_path: Path) -> None:
    from peft import LoraConfig

    def fresh() -> torch.Tensor:
        torch.rand(7)
        adapter = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
        return weights(PADTrainer(tiny_model(), config(tmp_path), PROMPTS, byte_tokenizer(), RuleTeacher(), adapter))

    assert torch.equal(fresh(), fresh())


def test_an_unfinished_checkpoint_is_skipped(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (4, '{"half'), (10, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-2"
    assert newest_whole(tmp_path / "nowhere") is None


def test_on_policy_decomposition_samples_each_part_anew(tmp_path: Path) -> None:
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, n=8, parts=2).train()
    by_step = [[i.split("@")[0] for i in teacher.scored[k : k + 3]] for k in range(0, 18, 3)]
    assert [a == b for a, b in pairwise(by_step)] == [True, False, True, False, True]
    assert len(round_names(tmp_path)) == 6


def test_fixed_decomposition_samples_all_parts_at_once(tmp_path: Path) -> None:
    trainer(tmp_path, RuleTeacher(), n=8, parts=2, decompose="fixed").train()
    assert round_names(tmp_path) == ["000000", "000002", "000004"]
    sets = list(jsonl.read(tmp_path / "rounds" / "000000" / "sets.jsonl", SampledSet))
    assert [len(each.responses) for each in sets] == [4] * 6
    assert len({response.text for each in sets for response in each.responses}) > 12


def test_scored_sets_train_the_student_without_a_teacher(tmp_path: Path) -> None:
    trainer(tmp_path, dataset=scored_sets(), max_steps=30, learning_rate=3e-3, save_steps=100).train()
    lines = metrics(tmp_path)
    first, last = lines[:4], lines[-4:]  # each a whole epoch
    assert sum(line["loss"] for line in last) < 0.7 * sum(line["loss"] for line in first)
    assert mean(line["agreement/pairwise"] for line in last) > mean(line["agreement/pairwise"] for line in first)
    assert {"entropy/teacher", "entropy/student", "label_mass", "grad_norm", "mean_log_likelihood/rank_4"} <= lines[
        0
    ].keys()


def test_scored_sets_are_divided_into_parts(tmp_path: Path) -> None:
    built = trainer(tmp_path, dataset=scored_sets(n=8), n=8, parts=2)
    assert len(built.train_dataset) == 24
    assert {len(each.responses) for each in built.train_dataset} == {4}


def test_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "a", dataset=scored_sets(), per_device_train_batch_size=4, max_steps=2)
    small = trainer(
        tmp_path / "b",
        dataset=scored_sets(),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=2,
    )
    whole.train()
    small.train()
    assert weights(small) == pytest.approx(weights(whole), abs=1e-6)


def test_the_anchor_holds_the_teachers_best_response_up(tmp_path: Path) -> None:
    ends = {}
    for anchor in (0.0, 5.0):
        folder = tmp_path / str(anchor)
        trainer(folder, dataset=scored_sets(), anchor=anchor, max_steps=20, save_steps=100).train()
        ends[anchor] = metrics(folder)[-1]["mean_log_likelihood/rank_1"]
    assert ends[5.0] > ends[0.0] + 0.1


def test_an_adapter_alone_is_trained_when_asked(tmp_path: Path) -> None:
    from peft import LoraConfig

    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trained = PADTrainer(model, config(tmp_path), PROMPTS, byte_tokenizer(), RuleTeacher(), adapter)
    trained.train()
    trained.save_model(str(tmp_path / "out"))
    base = trained.model.get_base_model().state_dict()
    assert all(
        torch.equal(
            value, base[name.replace("proj.", "proj.base_layer.") if "q_proj" in name or "v_proj" in name else name]
        )
        for name, value in before.items()
    )
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert any(p.abs().sum() > 0 for name, p in trained.model.named_parameters() if "lora_B" in name)


def test_a_flat_signal_is_said_in_plain_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path, dataset=scored_sets(), beta_teacher=1e-3, max_steps=25, save_steps=100).train()
    assert "Raise beta_teacher" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "jsd"},
        {"n": 4, "parts": 3},
        {"n": 4, "parts": 4},
        {"decompose": "no"},
        {"alpha": 2},
        {"n": 32, "loss": "forward_kl"},
        {"beta_student": 0},
        {"max_forward_tokens": 0},
    ],
)
def test_fields_that_do_not_go_together_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config(tmp_path, **wrong)


def test_datasets_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="give the trainer a teacher"):
        trainer(tmp_path)
    with pytest.raises(DatasetError, match="mixes"):
        trainer(tmp_path, RuleTeacher(), dataset=[*PROMPTS, *scored_sets()])
    with pytest.raises(DatasetError, match="and n is 4"):
        trainer(tmp_path, dataset=scored_sets(n=3))


def test_rows_past_the_students_context_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = {"id": "long", "prompt": "x" * 500}
    built = trainer(tmp_path, RuleTeacher(), dataset=[*PROMPTS, long])
    assert len(built.train_dataset) == 12
    assert "1 rows exceed" in caplog.text


@pytest.mark.parametrize(
    ("given", "of_all", "of_an_adapter"), [({}, 8e-7, 1e-4), ({"learning_rate": 3e-6}, 3e-6, 3e-6)]
)
def test_an_adapter_has_a_learning_rate_of_its_own(
    tmp_path: Path, given: dict[str, float], of_all: float, of_an_adapter: float
) -> None:
    for adapter, expected in (
        (None, of_all),
        (LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"), of_an_adapter),
    ):
        how = PADConfig(str(tmp_path), use_cpu=True, dataloader_pin_memory=False, **given)
        PADTrainer(tiny_model(), how, scored_sets(), byte_tokenizer(), peft_config=adapter)
        assert how.learning_rate == expected


def test_rounds_that_no_checkpoint_needs_are_removed(tmp_path: Path) -> None:
    trainer(tmp_path, RuleTeacher(), keep_rounds="needed", save_total_limit=2, max_steps=8).train()
    assert round_names(tmp_path) == ["000006", "000007"]
    nobody = RuleTeacher(patience=0)
    shutil.rmtree(tmp_path / "checkpoint-8")
    trainer(tmp_path, nobody, keep_rounds="needed", max_steps=8).train(resume_from_checkpoint=newest_whole(tmp_path))


def test_a_steps_line_costs_the_same_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = run_logs.Appender

    def counted(path: Path, **how: Any) -> Any:
        opened.append(path.name)
        return original(path, **how)

    monkeypatch.setattr(run_logs, "Appender", counted)
    trainer(tmp_path, dataset=scored_sets()).train()
    assert sorted(opened) == ["costs.jsonl", "metrics.jsonl", "starts.jsonl"]
    trainer(tmp_path, dataset=scored_sets()).train()
    assert len(metrics(tmp_path)) == 6
