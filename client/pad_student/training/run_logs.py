"""JSON lines that a run keeps in its output directory: how it was started, its metrics, and its costs."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from pad_student.model.distributed.processes import means_of_all
from pad_student.on_policy.costs import Costs
from pad_student.preference.config import PADConfig
from pad_student.storage.jsonl import Appender
from pad_student.training.batches import TrainingRow
from pad_wire import ScoredSet

UNSAID = (
    "output_dir",
    "logging_",
    "hub_",
    "max_steps",
    "disable_tqdm",
    "dataloader_",
    "remove_unused",
    "report_to",
)


class StartLog(TrainerCallback):
    """Appends a line to ``starts.jsonl`` at each start of the run: its settings, versions and data.

    Args:
        rows: the dataset.
    """

    def __init__(self, rows: Sequence[TrainingRow]) -> None:
        self._rows = rows

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Append the line, in the first process alone."""
        if not state.is_world_process_zero:
            return
        scored = next((row for row in self._rows if isinstance(row, ScoredSet)), None)
        with Appender(Path(args.output_dir) / "starts.jsonl", key="started") as lines:
            lines.append(
                {
                    "started": datetime.now(UTC).isoformat(),
                    "step": state.global_step,
                    "command": command_line(sys.argv),
                    "max_steps": state.max_steps,
                    "model": str(getattr(model.config, "_name_or_path", "")),
                    "rows": len(self._rows),
                    "rows_are": "scored sets" if scored else "prompts",
                    "teacher": scored.teacher.model_dump() if scored else None,
                    "processes": args.world_size,
                    "device": str(args.device),
                    "versions": {name: version(name) for name in ("pad-service", "torch", "transformers")},
                    "settings": _decisive_settings(args),
                }
            )


class StepLog(TrainerCallback):
    """A file of lines by step, which is read once, at a start's first line, and stays open until ``close``.

    Args:
        name: of the file in the output directory.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: Appender | None = None

    def lines(self, args: Any) -> Appender:
        """The file, opened if it is not open."""
        if self._open is None:
            self._open = Appender(Path(args.output_dir) / self._name, key="step")
        return self._open

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the file: the next training may go on with it."""
        self.close()

    def close(self) -> None:
        """Flush to the disk and close."""
        if self._open is not None:
            self._open.close()
            self._open = None


class MetricsLog(StepLog):
    """Appends each step's metrics to ``metrics.jsonl``, whatever trackers are in use."""

    def __init__(self) -> None:
        super().__init__("metrics.jsonl")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the step's line, unless an earlier start of the run wrote one for the same step."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        lines = self.lines(args)
        if state.global_step not in lines.held:
            lines.append({"step": state.global_step, **logs})


class EvaluationLog(StepLog):
    """Appends the metrics of each evaluation to ``evaluations.jsonl``, which is open only meanwhile."""

    def __init__(self) -> None:
        super().__init__("evaluations.jsonl")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the line, unless an earlier start of the run wrote one for the same step."""
        every: dict[str, Any] = logs or {}
        found = {name: value for name, value in every.items() if name.startswith("eval_")}
        if found and state.is_world_process_zero and state.global_step not in (lines := self.lines(args)).held:
            lines.append({"step": state.global_step, **found})
        self.close()


class CostLog(StepLog):
    """Appends each step's seconds and teacher tokens to ``costs.jsonl``; a step done twice has two lines.

    Over several processes tokens are summed and seconds are averaged, so that they still add up to the time that
    passed.

    Args:
        costs: counts them.
    """

    def __init__(self, costs: Costs) -> None:
        super().__init__("costs.jsonl")
        self._costs = costs

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start counting here, because everything before is loading."""
        if not self._costs.counting:
            self._costs.begin()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the costs since the last line."""
        if not logs or "loss" not in logs:
            return
        costs = means_of_all({name: [(value, 1)] for name, value in self._costs.take().items()})
        if "teacher_tokens" in costs:
            costs["teacher_tokens"] = round(costs["teacher_tokens"] * args.world_size)
        if state.is_world_process_zero:
            self.lines(args).append({"step": state.global_step, **costs})


def command_line(arguments: Sequence[str]) -> str:
    """A process's command as a shell takes it, without the values of flags that hold a secret."""
    said = [Path(arguments[0]).name] if arguments else []
    hidden = False
    for each in arguments[1:]:
        flag, equals, _ = each.partition("=")
        secret = flag.lstrip("-").replace("-", "_").rpartition("_")[2] in ("key", "token")
        said.append("…" if hidden else f"{flag}=…" if secret and equals else each)
        hidden = secret and not equals
    return shlex.join(said)


def _decisive_settings(args: PADConfig) -> dict[str, Any]:
    """This project's settings, and those of transformers that differ from their defaults; no paths, no secrets."""
    own = {field.name for field in fields(PADConfig)} - {field.name for field in fields(TrainingArguments)}
    usual = {field.name: field.default for field in fields(TrainingArguments)}
    values = {name: getattr(args, name) for name in (*own, *usual) if not name.startswith(UNSAID)}
    changed = {name: value for name, value in values.items() if name in own or value != usual[name]}
    return {name: value for name, value in sorted(changed.items()) if isinstance(value, str | int | float)}
