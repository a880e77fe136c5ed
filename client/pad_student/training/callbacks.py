"""Callbacks for the person at the terminal: progress bar, a run's new length, a clean stop on Ctrl-C or SIGTERM."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from pad_student.model.distributed.processes import gather_from_all, wait_for_all
from pad_student.on_policy.costs import Costs


class ProgressBar(ProgressCallback):
    """One bar with the remaining time, the round, the loss, the agreement and the share of time spent on the teacher.

    Args:
        costs: knows how much time the student waited for the teacher.
    """

    def __init__(self, costs: Costs) -> None:
        super().__init__()
        self._costs = costs

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step where a continued run begins: earlier steps tell nothing about the time left."""
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)
        self.current_step = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Update the figures next to the bar."""
        if self.training_bar is None or not logs or "loss" not in logs:
            return
        figures = {"round": (state.global_step - 1) // args.steps_a_round + 1, "loss": f"{logs['loss']:.3f}"}
        if "agreement/pairwise" in logs:
            figures["agreement"] = f"{logs['agreement/pairwise']:.2f}"
        waited = self._costs.share("waited_for_teacher")
        if waited is None:
            del figures["round"]  # scored sets from a file have no rounds
        else:
            figures["teacher wait"] = f"{waited:.0%}"
        self.training_bar.set_postfix(figures)

    def close(self) -> None:
        """Close the bar and leave it visible: the message of a failed run comes below it."""
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None


class NewLength(TrainerCallback):
    """Says that a continued run now ends after another step: the learning rate follows the new length from here on.

    Args:
        before: the last step as the earlier start planned it; 0 if that is not known.
        say: receives the line.
    """

    def __init__(self, before: int, say: Callable[[str], None]) -> None:
        self._before = before
        self._say = say

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare the lengths, whether steps or epochs set them."""
        if 0 < self._before != state.max_steps:
            self._say(
                f"{args.output_dir}: begun to end after step {self._before}, now after {state.max_steps}:"
                " from here on the learning rate is that of the new length"
            )


class StopOnSignal(TrainerCallback):
    """Ctrl-C or SIGTERM ends the run after the current step, with a checkpoint; a second one ends it immediately.

    Invariants:
        - All processes stop after the same step, because those that went on would wait for ever.
        - The handlers from before are back after the first signal, and after ``restore``.
    """

    def __init__(self) -> None:
        self._asked = self._stopping = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the handlers, which Python allows in the main thread only."""
        self._asked = self._stopping = False
        if threading.current_thread() is threading.main_thread():
            self._before = {caught: signal.signal(caught, self._ask) for caught in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if any process was signalled."""
        self._stopping = any(gather_from_all(self._asked))
        if self._stopping:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise KeyboardInterrupt, as Ctrl-C does, if the run ended early."""
        if self._stopping and state.global_step < state.max_steps:
            wait_for_all()  # a launcher kills all processes when the first one exits; others may still be saving
            raise KeyboardInterrupt

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for caught, handler in self._before.items():
            signal.signal(caught, handler)
        self._before = {}

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.restore()
        self._asked = True


# pyright: standard
