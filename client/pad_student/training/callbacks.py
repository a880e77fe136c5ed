"""What a run shows, keeps and listens to: one bar, lines of metrics and costs, and Ctrl-C at the end of a step."""

import signal
import threading
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from pad_student.model.distributed.processes import from_all, means_of_all, wait_for_all
from pad_student.on_policy.costs import Costs
from pad_student.preference.config import PADConfig
from pad_student.storage.jsonl import Appender
from pad_student.training.batches import TrainingRow
from pad_wire import ScoredSet

UNSAID = ("output_dir", "logging_", "hub_", "max_steps", "disable_tqdm", "dataloader_", "remove_unused", "report_to")


class OneBar(ProgressCallback):
    """Round, loss, agreement and the share of time spent waiting for the teacher, beside a bar with the time left."""

    def __init__(self, costs: Costs) -> None:
        super().__init__()
        self._costs = costs

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin where a continued run does: steps of an earlier start tell nothing about the time left."""
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)
        self.current_step = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Update what stands beside the bar."""
        if self.training_bar is None or not logs or "loss" not in logs:
            return
        shown = {"round": (state.global_step - 1) // args.steps_a_round + 1, "loss": f"{logs['loss']:.3f}"}
        if "agreement/pairwise" in logs:
            shown["agreement"] = f"{logs['agreement/pairwise']:.2f}"
        waited = self._costs.share("waited_for_teacher")
        if waited is None:
            del shown["round"]  # scores from a file come in no rounds
        else:
            shown["teacher wait"] = f"{waited:.0%}"
        self.training_bar.set_postfix(shown)

    def close(self) -> None:
        """Leave the bar as it is: a run that failed has something to say below it."""
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None


class Record(TrainerCallback):
    """Keeps ``metrics.jsonl`` in the output directory, whatever trackers there are."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the step's metrics; after a restart the steps done again are there already."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        with Appender(Path(args.output_dir) / "metrics.jsonl", key="step") as lines:
            if state.global_step not in lines.held:
                lines.append({"step": state.global_step, **logs})


class Spent(TrainerCallback):
    """Keeps ``costs.jsonl``: what each step took, also one that is done again after a restart.

    Of several processes, tokens are added up, and seconds are the mean: they still add up to the time that went by.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count from here: what came before is loading."""
        if not self._costs.counting:
            self._costs.begin()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append what was spent since the last line."""
        if not logs or "loss" not in logs:
            return
        costs = means_of_all({name: [value] for name, value in self._costs.take().items()})
        if "teacher_tokens" in costs:
            costs["teacher_tokens"] = round(costs["teacher_tokens"] * args.world_size)
        if state.is_world_process_zero:
            with Appender(Path(args.output_dir) / "costs.jsonl", key="step") as lines:
                lines.append({"step": state.global_step, **costs})


class Started(TrainerCallback):
    """Keeps ``starts.jsonl``: with what each start of the run began."""

    def __init__(self, rows: Sequence[TrainingRow]) -> None:
        self._rows = rows

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Append the settings that are this project's, or not transformers' defaults."""
        if not state.is_world_process_zero:
            return
        scored = next((row for row in self._rows if isinstance(row, ScoredSet)), None)
        with Appender(Path(args.output_dir) / "starts.jsonl", key="started") as lines:
            lines.append(
                {
                    "started": datetime.now(UTC).isoformat(),
                    "step": state.global_step,
                    "max_steps": state.max_steps,
                    "model": str(getattr(model.config, "_name_or_path", "")),
                    "rows": len(self._rows),
                    "rows_are": "scored sets" if scored else "prompts",
                    "teacher": scored.teacher.model_dump() if scored else None,
                    "processes": args.world_size,
                    "device": str(args.device),
                    "versions": {name: version(name) for name in ("pad-service", "torch", "transformers")},
                    "settings": _telling(args),
                }
            )


def _telling(args: PADConfig) -> dict[str, Any]:
    """This project's settings, and transformers' where they were changed; not where files are, and no secrets."""
    own = {field.name for field in fields(PADConfig)} - {field.name for field in fields(TrainingArguments)}
    usual = {field.name: field.default for field in fields(TrainingArguments)}
    values = {name: getattr(args, name) for name in (*own, *usual) if not name.startswith(UNSAID)}
    changed = {name: value for name, value in values.items() if name in own or value != usual[name]}
    return {name: value for name, value in sorted(changed.items()) if isinstance(value, str | int | float)}


class StopWhenAsked(TrainerCallback):
    """Ctrl-C and SIGTERM end the run after the current step, with a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self._asked = self._stopping = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen; only a main thread can."""
        self._asked = self._stopping = False
        if threading.current_thread() is threading.main_thread():
            self._before = {caught: signal.signal(caught, self._ask) for caught in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if asked to."""
        self._stopping = any(from_all(self._asked))  # all at the same step, or those that go on wait for ever
        if self._stopping:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the run as Ctrl-C does."""
        if self._stopping and state.global_step < state.max_steps:
            wait_for_all()  # a launcher ends all processes when the first one ends, which may be before all is saved
            raise KeyboardInterrupt

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.restore()
        self._asked = True

    def restore(self) -> None:
        """Stop listening."""
        for caught, handler in self._before.items():
            signal.signal(caught, handler)
        self._before = {}
