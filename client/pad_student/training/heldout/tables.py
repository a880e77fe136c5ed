"""Held-out answers as a table in the run's trackers: TensorBoard, Weights & Biases, MLflow."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from transformers import TrainerCallback
from transformers.integrations.integration_utils import MLflowCallback, TensorBoardCallback, WandbCallback

from pad_student.training.heldout.answers import FILE
from pad_wire.chat import as_text

TITLE = "held-out answers"
ROWS = 16
COLUMNS = ("prompt", "before", "now", "reward", "reward_start", "grade", "grade_start")


class AnswerTables(TrainerCallback):
    """Gives each tracker a table after each evaluation: prompts, the starting student's answers and the present ones.

    Args:
        callbacks: the trainer's own list, trackers among them.
    """

    def __init__(self, callbacks: Sequence[TrainerCallback]) -> None:
        self._callbacks = callbacks

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Read the evaluation's answers from its file, in the first process alone."""
        path = Path(args.output_dir) / FILE
        found = [(each, sender) for each in self._callbacks for kind, sender in SENDERS if isinstance(each, kind)]
        if not found or not state.is_world_process_zero or not path.exists():
            return
        table = table_of(map(orjson.loads, path.read_bytes().splitlines()), state.global_step)[:ROWS]
        columns = [name for name in COLUMNS if any(name in line for line in table)]
        for tracker, sender in found:
            sender(tracker, columns, [[line.get(name, "") for name in columns] for line in table], state.global_step)


def table_of(lines: Iterable[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """One row for each answer of ``step``, with the start's answer to the same prompt."""
    starts: dict[str, dict[str, Any]] = {}
    found: list[dict[str, Any]] = []
    for line in lines:
        if line.get("is_start"):
            starts[line["prompt_id"]] = line
        elif line["step"] == step and (start := starts.get(line["prompt_id"])):
            texts = {"prompt": as_text(start["prompt"]), "before": start["answer"]["text"]}
            found.append(line | texts | {"now": line["answer"]["text"]})
    return found


def _tensorboard(tracker: Any, columns: Sequence[str], cells: Sequence[Sequence[Any]], step: int) -> None:
    if tracker.tb_writer is not None:
        rows = [columns, ["---"] * len(columns), *cells]
        text = "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)
        tracker.tb_writer.add_text(TITLE, text, step)


def _cell(value: Any) -> str:
    shown = f"{value:.3f}" if isinstance(value, float) else str(value)
    return " ".join(shown.replace("|", "\\|").split())


def _wandb(tracker: Any, columns: Sequence[str], cells: Sequence[Sequence[Any]], step: int) -> None:
    wandb = tracker._wandb
    if wandb is not None and wandb.run is not None:
        table = wandb.Table(columns=list(columns), data=[list(row) for row in cells])
        wandb.log({TITLE: table, "train/global_step": step})


def _mlflow(tracker: Any, columns: Sequence[str], cells: Sequence[Sequence[Any]], step: int) -> None:
    if tracker._ml_flow is not None and tracker._ml_flow.active_run():
        data = {name: [row[place] for row in cells] for place, name in enumerate(columns)}
        tracker._ml_flow.log_table(data | {"step": [step] * len(cells)}, "heldout_answers.json")


SENDERS = ((TensorBoardCallback, _tensorboard), (WandbCallback, _wandb), (MLflowCallback, _mlflow))


# pyright: standard
