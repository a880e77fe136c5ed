"""Prompts that teach no more are mostly left out, and those whose preference is unsettled get a second set."""

import json
import time
from math import lgamma, log
from pathlib import Path
from typing import Any

import pytest
import torch

from pad_student.data.prompts import PromptLine
from pad_student.errors import ConfigError, NothingSampled, OtherRun
from pad_student.model.distributed.step_weights import StepPlan
from pad_student.on_policy.prompt_memory import PromptMemory
from pad_student.preference.set_rewards import entropy_over_texts
from pad_student.storage import jsonl
from pad_student.teacher.errors import TeacherUnreachable
from pad_wire import Response, SampledSet, ScoredResponse, ScoredSet
from support.student_runs import TEACHER, Narrow, RuleTeacher, config, metrics, scored, trainer, weights

RUN = {"n": 2, "max_steps": 10, "save_steps": 2}  # two epochs and more of twelve prompts, three a step
FLATTER = {"n": 3, "beta_teacher": 1.0}  # else hardly a preference is unsettled
PROMPTS = 12


def items(step: int) -> list[tuple[str, PromptLine]]:
    return [(f"p{k}@{step}", PromptLine(id=f"p{k}", prompt="say")) for k in range(PROMPTS)]


def memory(folder: Path, most: float = 0.9) -> PromptMemory:
    return PromptMemory(folder / "taught.jsonl", most, seed=0)


def noted(each: PromptMemory, step: int, losses: dict[int, float]) -> None:
    each.begin_step([])
    each.taker(step, [f"p{k}@{step}" for k in losses], is_last=True)(list(losses.values()))  # type: ignore[arg-type]


def sets(folder: Path) -> dict[str, SampledSet]:
    return {each.id: each for path in folder.glob("rounds/*/sets.jsonl") for each in jsonl.read(path, SampledSet)}


def test_a_prompt_is_left_out_as_often_as_its_loss_says(tmp_path: Path) -> None:
    each = memory(tmp_path)
    noted(each, 0, {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.5})  # mean 0.2
    steps = range(1, 2001)
    out = [name.partition("@")[0] for step in steps for name in each.left_out(items(step), step)]
    shares = [out.count(f"p{k}") / len(steps) for k in range(5)]
    assert shares == pytest.approx([0.9, 0.45, 0, 0, 0], abs=0.03)


def test_a_step_keeps_at_least_one_of_its_prompts(tmp_path: Path) -> None:
    each = memory(tmp_path)
    noted(each, 0, dict.fromkeys(range(PROMPTS), 0.0))
    assert all(len(each.left_out(items(step)[:1], step)) == 0 for step in range(1, 30))
    assert all(len(each.left_out(items(step)[:2], step)) <= 1 for step in range(30, 60))


def test_a_prompt_named_twice_in_a_step_is_one_prompt(tmp_path: Path) -> None:
    each = memory(tmp_path)
    noted(each, 0, dict.fromkeys(range(PROMPTS), 0.0))
    for step in range(1, 60):
        first, second, *_ = items(step)
        assert set(each.left_out([first, second, first], step)) < {first[0], second[0]}


def test_a_prompt_without_a_loss_does_not_stand_for_the_others(tmp_path: Path) -> None:
    each = memory(tmp_path)
    noted(each, 0, {0: 0.0, 1: 0.0})
    assert all(len(each.left_out(items(step)[:3], step)) < 2 for step in range(1, 60))


def test_a_loss_that_is_no_number_is_not_remembered(tmp_path: Path) -> None:
    each = memory(tmp_path)
    noted(each, 0, {0: float("nan"), 1: 0.5})
    (line,) = (tmp_path / "taught.jsonl").read_text().splitlines()
    assert json.loads(line)["losses"] == {"p1": 0.5}


def test_a_prompt_that_is_always_refused_does_not_end_the_run(tmp_path: Path) -> None:
    trainer(tmp_path, Narrow(), skip_settled=0.9, **RUN | {"max_steps": 40}).train()
    assert len(metrics(tmp_path)) == 40


def test_a_step_without_scores_ends_a_run_unless_on_purpose() -> None:
    plan = StepPlan.of(["p1@0", "p2@0"])
    assert plan.rescaled(0, left_out=1) == 1
    with pytest.raises(NothingSampled):
        plan.rescaled(0)


def test_only_steps_before_the_next_one_are_remembered(tmp_path: Path) -> None:
    whole = memory(tmp_path)
    for step in range(6):
        noted(whole, step, {k: float(k + step) for k in range(PROMPTS)})
    expected = memory(tmp_path / "expected")
    for step in range(3):
        noted(expected, step, {k: float(k + step) for k in range(PROMPTS)})
    assert memory(tmp_path).left_out(items(9), 3) == expected.left_out(items(9), 3)
    assert memory(tmp_path).left_out(items(9), 6) == whole.left_out(items(9), 6)


def test_a_prompt_with_two_sets_is_remembered_by_the_larger(tmp_path: Path) -> None:
    each = memory(tmp_path)
    each.begin_step(["p3@0"])
    each.taker(0, ["p1@0", "p1@0/2"], is_last=False)([0.3, 0.1])  # type: ignore[arg-type]
    each.taker(0, [], is_last=True)([9.0])  # type: ignore[arg-type]
    (line,) = (tmp_path / "taught.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 0, "losses": {"p3": 0.0, "p1": 0.3}}


def test_a_run_leaves_out_settled_prompts_and_says_how_many(tmp_path: Path) -> None:
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, skip_settled=0.9, **RUN).train()
    taught = {json.loads(line)["step"] for line in (tmp_path / "rounds/taught.jsonl").read_text().splitlines()}
    assert taught == set(range(10))
    first_epoch = {name for name in teacher.scored if int(name.partition("@")[2]) < 4}
    assert len(first_epoch) == PROMPTS
    left_out = 30 - len(teacher.scored)
    assert left_out > 0
    shares = [line["share/settled"] for line in metrics(tmp_path) if "share/settled" in line]
    assert sum(shares) * 3 == pytest.approx(left_out)
    assert shares[:4] == [0, 0, 0, 0]


@pytest.mark.parametrize("more", [{}, {"staleness": 1}, {"second_set_above": 0.7}])
def test_a_continued_run_leaves_out_and_adds_the_same(tmp_path: Path, more: dict[str, Any]) -> None:
    how = RUN | {"skip_settled": 0.9} | FLATTER | more
    whole = trainer(tmp_path / "whole", RuleTeacher(), **how)
    whole.train()
    scored_in_all = len(sets(tmp_path / "whole"))
    cut = trainer(tmp_path / "cut", RuleTeacher(patience=scored_in_all - 4), **how)
    with pytest.raises(TeacherUnreachable):
        cut.train()
    second = RuleTeacher()
    cut = trainer(tmp_path / "cut", second, **how)
    cut.train(resume_from_checkpoint=True)
    assert sets(tmp_path / "cut") == sets(tmp_path / "whole")
    assert torch.equal(weights(cut), weights(whole))
    assert len(second.scored) == 4  # nothing was asked for twice


def test_an_unsettled_prompt_gets_a_second_set(tmp_path: Path) -> None:
    teacher = RuleTeacher()
    trainer(tmp_path, teacher, second_set_above=0.7, **RUN | FLATTER | {"max_steps": 4}).train()
    found, settings = sets(tmp_path), config(tmp_path, **FLATTER)
    first = {name: each for name, each in found.items() if not name.endswith("/2")}
    several = {name: each for name, each in first.items() if len({r.text for r in each.responses}) > 1}
    above = {f"{name}/2" for name, each in several.items() if entropy_over_texts(scored(each), settings) > 0.7}
    assert 0 < len(above) < len(several)
    assert found.keys() - first.keys() == above
    assert all(found[name].responses != first[name.removesuffix("/2")].responses for name in above)
    shares = [line["share/unsettled"] for line in metrics(tmp_path) if "share/unsettled" in line]
    assert sum(shares) * 3 == pytest.approx(len(above))


def test_sets_of_one_text_that_are_kept_get_no_second_set(tmp_path: Path) -> None:
    how = {"n": 2, "max_steps": 4, "one_text": "keep", "temperature": 0.2, "max_response_tokens": 3}
    trainer(tmp_path, RuleTeacher(), second_set_above=0.0, **how).train()
    found = sets(tmp_path)
    alike = {name for name, each in found.items() if each.responses[0].text == each.responses[1].text}
    assert alike
    assert not {f"{name}/2" for name in alike} & found.keys()


def test_waiting_for_first_scores_counts_as_waiting(tmp_path: Path) -> None:
    class Slow(RuleTeacher):
        def score_stream(self, sets: Any, **options: Any) -> Any:
            for each in super().score_stream(sets, **options):
                time.sleep(0.05)
                yield each

    trainer(tmp_path, Slow(), second_set_above=1.0, **RUN | {"n": 3, "max_steps": 2}).train()
    lines = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert sum(line["seconds/waited_for_teacher"] for line in lines) > 0.2  # of 6 sets' 0.3


def test_a_second_set_is_trained_on_like_a_first_one(tmp_path: Path) -> None:
    """A step of first and second sets has the gradient of the mean over all of them."""
    once = {"n": 2, "max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "alpha": 0.0}
    both = trainer(tmp_path / "both", RuleTeacher(), second_set_above=0.0, **once)
    start = weights(both)
    both.train()
    all_sets = [
        scored(each) for each in sets(tmp_path / "both").values() if len({r.text for r in each.responses}) > 1
    ]
    assert any(each.id.endswith("/2") for each in all_sets)
    left_out = len(sets(tmp_path / "both")) - len(all_sets)
    other = trainer(
        tmp_path / "other", dataset=all_sets, **once | {"per_device_train_batch_size": len(all_sets), "seed": 1}
    )
    other.train()
    share = len(all_sets) / (len(all_sets) + left_out)  # sets of one text count in the mean
    assert torch.allclose(weights(both) - start, (weights(other) - start) * share, atol=1e-6)


def test_a_teacher_that_fails_before_second_sets_loses_no_step(tmp_path: Path) -> None:
    how = RUN | FLATTER | {"second_set_above": 0.7, "save_steps": 100}
    one = trainer(tmp_path, RuleTeacher(patience=8), **how)
    with pytest.raises(TeacherUnreachable):
        one.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")]


def test_entropy_is_over_texts_and_agrees_with_an_enumeration() -> None:
    values = [0.0, -0.1, -0.1]
    responses = [
        ScoredResponse(text=text, log_likelihood=value, tokens=1, mean_log_likelihood=value)
        for text, value in zip("abb", values, strict=True)
    ]
    one = ScoredSet(id="s", prompt="say", responses=responses, teacher=TEACHER)
    settings = config(Path("unused"), alpha=0.0, beta_teacher=10.0)
    p = 1 / (1 + pow(2.718281828459045, -1.0))
    assert entropy_over_texts(one, settings) == pytest.approx(-(p * log(p) + (1 - p) * log(1 - p)) / lgamma(3))


@pytest.mark.parametrize("setting", [{"skip_settled": 0.5}, {"second_set_above": 0.9}])
def test_adaptive_settings_are_for_pad_and_bind_a_run(tmp_path: Path, setting: dict[str, float]) -> None:
    (name,) = setting
    with pytest.raises(ConfigError, match=f"{name} is for method pad"):
        config(tmp_path, method="adpa", **setting)
    trainer(tmp_path, RuleTeacher(), **RUN | {"max_steps": 1}).train()
    with pytest.raises(OtherRun, match=name):
        trainer(tmp_path, RuleTeacher(), **RUN | {"max_steps": 1}, **setting)


def test_settled_prompts_are_for_sets_of_one_part(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skip_settled needs parts = 1"):
        config(tmp_path, skip_settled=0.5, n=4, parts=2)


def test_a_prompt_is_never_left_out_for_good(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skip_settled"):
        config(tmp_path, skip_settled=0.95)


def test_copies_of_a_text_are_no_second_text() -> None:
    one = SampledSet(id="s", prompt="say", responses=[Response(text="a"), Response(text="a")])
    with pytest.raises(ValueError, match="one text"):
        entropy_over_texts(scored(one), config(Path("unused")))
