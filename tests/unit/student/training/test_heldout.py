"""Evaluation on held-out rows during training: metrics, record, best checkpoint, early stopping."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EarlyStoppingCallback

from pad_student.errors import ConfigError, DatasetError, OtherRun
from pad_student.training.token_loss import TokenMethod
from pad_student.training.trainer import PADTrainer
from pad_wire import Response, SampledSet, ScoredSet
from support.fakes import byte_tokenizer
from support.student_runs import PROMPTS, RuleTeacher, config, metrics, scored_sets, trainer, weights
from support.tiny import tiny_model
from support.token_teacher import PAIRS, TokenTeacher

HELD_OUT = [{"id": f"h{k}", "prompt": f"tell {k}"} for k in range(5)]


def untrained(
    folder: Path, held_out: Any, rows: Any = None, *, grader: Any = None, teacher: Any = None, **changes: Any
) -> Any:
    settings = {"eval_steps": 2, "load_best_model_at_end": True, "max_steps": 4} | changes
    rows = rows or (PROMPTS if teacher else scored_sets())
    made = config(folder, **settings)
    return PADTrainer(tiny_model(), made, rows, byte_tokenizer(), teacher, eval_dataset=held_out, grader=grader)


def evaluated(folder: Path, held_out: Any = HELD_OUT, **changes: Any) -> Any:
    made = untrained(folder, held_out, **changes)
    made.train()
    return made


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_every_k_steps_reward_grade_and_wins_are_recorded(tmp_path: Path) -> None:
    evaluated(tmp_path, teacher=RuleTeacher(), grader=lambda prompt, answer: float(len(answer)))
    found = lines(tmp_path, "evaluations")
    assert [line["step"] for line in found] == [2, 4]
    for line in found:
        assert 0 <= line["eval_win_rate"] <= 1
        assert line["eval_reward_gain_low"] <= line["eval_reward_gain"] <= line["eval_reward_gain_high"]
        assert {"eval_reward", "eval_grade", "eval_grade_gain", "eval_kl", "eval_length"} <= line.keys()
    answers = lines(tmp_path, "heldout")
    assert sorted(line["id"] for line in answers) == sorted(f"h{k}@{step}" for k in range(5) for step in (0, 2, 4))


def test_a_student_that_learns_nothing_ties_with_its_start(tmp_path: Path) -> None:
    evaluated(tmp_path, teacher=RuleTeacher(), learning_rate=1e-12, max_steps=2)
    (found,) = lines(tmp_path, "evaluations")
    assert (found["eval_win_rate"], found["eval_reward_gain"]) == (0.5, 0)
    assert found["eval_kl"] == pytest.approx(0, abs=1e-5)


def test_training_is_the_same_with_and_without_evaluation(tmp_path: Path) -> None:
    with_it = evaluated(tmp_path / "with", teacher=RuleTeacher(), load_best_model_at_end=False)
    without = trainer(tmp_path / "without", RuleTeacher(), max_steps=4)
    without.train()
    assert (weights(with_it) == weights(without)).all()
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")


def test_the_best_checkpoint_is_the_student_at_the_end(tmp_path: Path) -> None:
    class Worse(RuleTeacher):
        """Prefers the start's answers the more, the later it is asked about held-out ones."""

    made = evaluated(tmp_path, teacher=Worse(), max_steps=6, learning_rate=0.05)
    found = {line["step"]: line["eval_reward"] for line in lines(tmp_path, "evaluations")}
    best = max(found, key=lambda step: found[step])
    assert made.state.best_global_step == best
    assert (tmp_path / f"checkpoint-{best}").is_dir()


def test_early_stopping_is_that_of_transformers(tmp_path: Path) -> None:
    made = PADTrainer(
        tiny_model(),
        config(tmp_path, eval_steps=2, save_steps=2, load_best_model_at_end=True, learning_rate=1e-12, max_steps=20),
        scored_sets(),
        byte_tokenizer(),
        eval_dataset=scored_sets(count=3),
        callbacks=[EarlyStoppingCallback(2, early_stopping_threshold=0.01)],
    )
    made.train()
    assert made.state.global_step == 6
    assert {"eval_loss", "eval_agreement"} <= lines(tmp_path, "evaluations")[0].keys()


def test_prompts_need_a_teacher_or_a_rule_to_judge_them(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="without scores"):
        evaluated(tmp_path)
    evaluated(tmp_path, grader=lambda prompt, answer: float(len(answer)), max_steps=2)
    assert "eval_grade" in lines(tmp_path, "evaluations")[0]


def test_another_dataset_cannot_be_evaluated_later(tmp_path: Path) -> None:
    made = trainer(tmp_path, None, scored_sets())
    with pytest.raises(ConfigError, match="when it is made"):
        made.evaluate()


def test_every_process_makes_as_many_forward_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharded weights are gathered by each pass, so a process with fewer passes would leave the others waiting."""
    made = PADTrainer(
        tiny_model(),
        config(tmp_path, per_device_eval_batch_size=1, eval_strategy="steps", eval_steps=2),
        scored_sets(),
        byte_tokenizer(),
        eval_dataset=scored_sets(count=3),
    )
    monkeypatch.setattr("pad_student.training.heldout.sets.count", lambda: 2)
    for place, weight in ((0, 2), (1, 1)):
        passes: list[Any] = []
        monkeypatch.setattr("pad_student.training.heldout.sets.rank", lambda place=place: place)
        monkeypatch.setattr(
            "pad_student.training.heldout.sets.means_of_all", lambda values: {"sets": len(values["loss"])}
        )
        hook = made.model.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        assert made.evaluation
        assert made.evaluation.measure(made.model, 0) == {"sets": weight}
        hook.remove()
        assert len(passes) == 2


def test_a_student_can_be_evaluated_before_it_is_trained(tmp_path: Path) -> None:
    made = untrained(tmp_path, HELD_OUT, teacher=RuleTeacher())
    found = made.evaluate()
    assert (found["eval_win_rate"], found["eval_reward_gain"]) == (0.5, 0)
    assert [line["step"] for line in lines(tmp_path, "evaluations")] == [0]
    made.train()
    assert [line["step"] for line in lines(tmp_path, "evaluations")] == [0, 2, 4]


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_the_starts_answers_are_completed_after_a_kill(tmp_path: Path, kept: int) -> None:
    evaluated(tmp_path / "whole", teacher=RuleTeacher(), max_steps=2)
    killed = tmp_path / "killed" / "heldout.jsonl"
    killed.parent.mkdir()
    whole = (tmp_path / "whole" / "heldout.jsonl").read_text().splitlines(keepends=True)
    killed.write_text("".join(whole[:kept]) + whole[kept][:40])
    evaluated(tmp_path / "killed", teacher=RuleTeacher(), max_steps=2)
    assert killed.read_text().splitlines(keepends=True) == whole


def test_a_run_is_judged_on_the_rows_that_it_began_with(tmp_path: Path) -> None:
    evaluated(tmp_path, teacher=RuleTeacher(), max_steps=2)
    for rows in (HELD_OUT[:3], [{**HELD_OUT[0], "prompt": "else"}, *HELD_OUT[1:]], scored_sets(count=3)):
        with pytest.raises(OtherRun, match="another set of held-out rows"):
            evaluated(tmp_path, rows, teacher=RuleTeacher())
    with pytest.raises(OtherRun, match="another metric_for_best_model"):
        evaluated(tmp_path, teacher=RuleTeacher(), metric_for_best_model="eval_kl", greater_is_better=False)


def test_answers_of_the_start_are_not_mixed_with_later_ones(tmp_path: Path) -> None:
    made = evaluated(tmp_path, teacher=RuleTeacher(), max_steps=2)
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if "h3@0" not in line))
    with pytest.raises(OtherRun, match="student of step 0, and none to 'h3'"):
        made.evaluate()


def test_a_rule_that_comes_later_grades_the_start_too(tmp_path: Path) -> None:
    evaluated(tmp_path, teacher=RuleTeacher(), max_steps=2)
    made = untrained(tmp_path, HELD_OUT, teacher=RuleTeacher(), grader=lambda prompt, answer: float(len(answer)))
    made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    by_id = {line["id"]: line for line in lines(tmp_path, "heldout")}
    for k in range(5):
        assert by_id[f"h{k}@4"]["grade_start"] == len(by_id[f"h{k}@0"]["answer"]["text"])
    assert "eval_grade_gain" in lines(tmp_path, "evaluations")[-1]


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_held_out_sets_are_judged_by_the_methods_own_loss(tmp_path: Path, method: str) -> None:
    sets = token_sets(TokenTeacher())
    made = untrained(tmp_path, sets, sets, method=method, n=2, per_device_eval_batch_size=2)
    own = TokenMethod(made.args, made.encoder)
    with torch.no_grad():
        values = [own.loss(b := own.batch([each]), own.student(made.model, b, False)).loss.item() for each in sets]
    assert made.evaluate() == {"eval_loss": pytest.approx(sum(values) / 3, abs=1e-6)}


def test_held_out_sets_without_distributions_are_refused(tmp_path: Path) -> None:
    sets = token_sets(TokenTeacher())
    for held_out, method, message in (
        (scored_sets(2, 3), "dckd", "'s0' has no token_tables"),
        ([each.model_copy(update={"answer": None}) for each in sets], "adpa", "has no answer"),
        (token_sets(TokenTeacher(reference=False)), "adpa", "without the teacher's reference"),
    ):
        with pytest.raises(DatasetError, match=message):
            untrained(tmp_path, held_out, sets, method=method, n=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["dckd", "adpa"])
def test_token_methods_compare_answers_by_likelihood_alone(tmp_path: Path, method: str) -> None:
    class Asked(TokenTeacher):
        options: list[Any] = []  # noqa: RUF012 -- of this test

        def score_stream(self, sets: Any, *_: Any, options: Any = None, **__: Any) -> Any:
            self.options.append(options)
            return super().score_stream(sets)

    untrained(tmp_path, HELD_OUT, PAIRS, teacher=Asked(), method=method, n=2, top_k=10).evaluate()
    assert [each.token_top for each in Asked.options] == [None]
    found = lines(tmp_path, "evaluations")[0]
    assert found["eval_reward"] < 0
    assert found["eval_win_rate"] == 0.5


def test_a_held_out_prompt_without_room_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"eval_dataset has no row that fits.*; lower max_response_tokens"):
        untrained(tmp_path, HELD_OUT, PAIRS, teacher=TokenTeacher(), method="dckd", max_response_tokens=10_000)


def token_sets(teacher: TokenTeacher) -> list[ScoredSet]:
    texts = [Response(text="yes"), Response(text="no!")]
    pairs = [SampledSet(id=f"{k}", prompt=f"say {k}", responses=texts, answer="sure") for k in range(3)]
    return list(teacher.score_stream(pairs))
