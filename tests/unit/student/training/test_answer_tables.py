"""Held-out answers reach the trackers as a table after each evaluation."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from pad_student.training.heldout.tables import AnswerTables
from pad_student.training.trainer import PADTrainer
from support.fakes import byte_tokenizer
from support.student_runs import PROMPTS, RuleTeacher, config
from support.tiny import tiny_model

HELD_OUT = [{"id": f"h{k}", "prompt": f"tell | {k}"} for k in range(3)]


class Recorder:
    """Takes the place of a tracker's library; ``run`` and ``active_run`` are those of W&B and MLflow."""

    run = True
    Table = dict

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def active_run(self) -> bool:
        return True

    def _record(self, *call: Any) -> None:
        self.calls.append(call)

    add_text = log = log_table = _record


def silent(kind: Any, attribute: str, recorder: Recorder) -> Any:
    """A tracker's callback that does nothing of its own."""
    events = {name: lambda *_, **__: None for name in dir(kind) if name.startswith("on_")}
    made = type(kind.__name__, (kind,), {"__init__": lambda self: None, "__del__": lambda self: None, **events})()
    setattr(made, attribute, recorder)
    return made


@pytest.fixture
def recorders(tmp_path: Path) -> dict[str, Recorder]:
    found = {name: Recorder() for name in ("tb_writer", "_wandb", "_ml_flow")}
    kinds = (TensorBoardCallback, WandbCallback, MLflowCallback)
    callbacks = [silent(kind, name, found[name]) for kind, name in zip(kinds, found, strict=True)]
    settings = config(tmp_path, eval_steps=2, max_steps=4)
    made = PADTrainer(
        tiny_model(), settings, PROMPTS, byte_tokenizer(), RuleTeacher(), eval_dataset=HELD_OUT, callbacks=callbacks
    )
    made.train()
    return found


def test_each_tracker_gets_a_table_at_each_evaluation(recorders: dict[str, Recorder]) -> None:
    texts = recorders["tb_writer"].calls
    assert [step for _, _, step in texts] == [2, 4]
    head, _, *rows = texts[0][1].split("\n")
    assert head == "| prompt | before | now | reward | reward_start |"
    assert [row.split(" | ")[0] for row in rows] == [rf"| tell \| {k}" for k in range(3)]
    first, second = (call[0] for call in recorders["_wandb"].calls)
    assert (first["train/global_step"], second["train/global_step"]) == (2, 4)
    assert [row[0] for row in first["held-out answers"]["data"]] == [each["prompt"] for each in HELD_OUT]
    assert recorders["_ml_flow"].calls[1][0]["step"] == [4, 4, 4]


def test_without_a_tracker_no_file_is_read(tmp_path: Path) -> None:
    AnswerTables([]).on_evaluate(config(tmp_path), None, None)


# pyright: standard


def test_an_answer_without_a_grade_has_an_empty_cell(tmp_path: Path) -> None:
    """A rule may have come between two starts of one evaluation."""
    answer, recorder = {"text": "yes", "finished": True}, Recorder()
    lines: list[dict[str, Any]] = [{"prompt_id": p, "step": 0, "is_start": True, "prompt": "?"} for p in "ab"]
    lines += [{"prompt_id": "a", "step": 2, "grade": 1.0}, {"prompt_id": "b", "step": 2}]
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps(line | {"answer": answer}) + "\n" for line in lines))
    state = SimpleNamespace(is_world_process_zero=True, global_step=2)
    tables = AnswerTables([silent(TensorBoardCallback, "tb_writer", recorder)])
    tables.on_evaluate(SimpleNamespace(output_dir=tmp_path), state, None)
    assert [row.split("|")[-2].strip() for row in recorder.calls[0][1].split("\n")[2:]] == ["1.000", ""]
