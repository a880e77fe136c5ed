"""What a run shows, keeps and listens to: one bar, a line of metrics a step, and Ctrl-C at the end of a step."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from pad_student.jsonl import Appender


class OneBar(ProgressCallback):
    """Shows loss and agreement beside the bar, instead of a dictionary a step above it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Update what stands beside the bar."""
        if self.training_bar is None or not logs or "loss" not in logs:
            return
        shown = {"loss": f"{logs['loss']:.3f}"}
        if "agreement/pairwise" in logs:
            shown["agreement"] = f"{logs['agreement/pairwise']:.2f}"
        self.training_bar.set_postfix(shown)


class Record(TrainerCallback):
    """Keeps ``metrics.jsonl`` in the output directory, whatever trackers there are."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the step's metrics; after a restart the steps done again are there already."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        with Appender(Path(args.output_dir) / "metrics.jsonl", key="step") as lines:
            if state.global_step not in lines.held:
                lines.append({"step": state.global_step, **logs})


class StopWhenAsked(TrainerCallback):
    """Ctrl-C and SIGTERM end the run after the current step, with a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen; only a main thread can."""
        self._asked = False
        if threading.current_thread() is threading.main_thread():
            self._before = {caught: signal.signal(caught, self._ask) for caught in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if asked to."""
        if args.world_size > 1:  # all processes stop at the same step, or those that go on wait for ever
            asked = torch.tensor(int(self._asked), device=args.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self._asked = bool(asked)
        if self._asked:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the run as Ctrl-C does."""
        if self._asked and state.global_step < state.max_steps:
            raise KeyboardInterrupt

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.restore()
        self._asked = True

    def restore(self) -> None:
        """Stop listening."""
        for caught, handler in self._before.items():
            signal.signal(caught, handler)
        self._before = {}
