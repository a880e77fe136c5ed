"""Callbacks for the person at the terminal: progress bar, a run's new length, a clean stop on Ctrl-C or SIGTERM."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from pad_student.model.distributed.processes import gather_from_all, wait_for_all
from pad_student.on_policy.costs import Costs
from pad_student.on_policy.round_folder import prune
from pad_student.storage.terminal.phases import Steps
from pad_student.storage.terminal.status import STATUS, Status
from pad_student.storage.terminal.stopping import StopSignals

HELD_OUT = {"eval_win_rate": "win", "eval_grade": "grade", "eval_loss": "held-out"}  # with the words of the line


class ProgressBar(TrainerCallback):
    """Shows the steps, the loss, the agreement, the share of time spent on the teacher, and the remaining time.

    Args:
        costs: knows how much time the student waited for the teacher.
        status: the status line; shown from the training's begin to ``close`` if no command shows it already.
    """

    def __init__(self, costs: Costs, status: Status = STATUS) -> None:
        self._costs = costs
        self._status = status
        self._steps: Steps | None = None
        self._hides = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the steps; a continued run begins with those it has."""
        if state.is_world_process_zero:
            self._steps = self._status.begin_steps(
                state.global_step, state.max_steps, lambda: why_slow(self._costs.open(), args)
            )
            self._hides = self._hides or not self._status.shown
            self._status.show()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock here: what comes before the first step tells nothing about the time left."""
        if self._steps:
            self._steps.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step."""
        if self._steps:
            self._steps.end()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Update the figures next to the bar."""
        if self._steps is None or not logs:
            return
        found = {short: f"{logs[name]:.2f}" for name, short in HELD_OUT.items() if name in logs}
        if "loss" in logs:
            found["loss"] = f"{logs['loss']:.3f}"
            if "agreement/pairwise" in logs:
                found["agree"] = f"{logs['agreement/pairwise']:.2f}"
            if (waited := self._costs.share("waited_for_teacher")) is not None:
                found["wait"] = f"{waited:.0%}".replace("%", " %")
        self._steps.note(found)

    def close(self) -> None:
        """Leave the last figures visible: the message of a failed run comes below them."""
        if self._steps is not None:
            self._status.end_steps()
            self._steps = None
        if self._hides:
            self._status.hide()
            self._hides = False


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


class EarlyStopping(EarlyStoppingCallback):
    """That of transformers, which goes on counting in a continued run, so that a kill does not move the end."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the evaluations since the best one."""
        super().on_train_begin(args, state, control, **kwargs)
        best, name = state.best_global_step or 0, f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        since = [line for line in state.log_history if name in line and line["step"] > best]
        self.early_stopping_patience_counter = len(since)


class BeginEvaluation(TrainerCallback):
    """Has an evaluation look at the starting student, which later ones are compared with."""

    def __init__(self, evaluation: Any) -> None:
        self._evaluation = evaluation

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Before the first step of this start."""
        self._evaluation.begin(model, state.global_step)


class PruneRounds(TrainerCallback):
    """Removes, after each checkpoint, the rounds that no kept checkpoint needs in order to continue."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Find the oldest checkpoint, and remove what lies before it."""
        if not state.is_local_process_zero:
            return
        output_dir = Path(args.output_dir)
        names = (path.name.removeprefix("checkpoint-") for path in output_dir.glob("checkpoint-*"))
        if steps := [int(name) for name in names if name.isdigit()]:
            prune(output_dir / "rounds", min(steps))


class StopOnSignal(TrainerCallback):
    """Ctrl-C or SIGTERM ends the run, with a checkpoint; a second one ends it immediately.

    Invariants:
        - All processes stop after the same step, because those that went on would wait for ever.
        - One process alone stops in its present phase if that allows it.
        - The handlers from before are back after the first signal, and after ``restore``.
    """

    def __init__(self, status: Status = STATUS) -> None:
        self._stopping = False
        self._status = status
        self._signals: StopSignals | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen."""
        self._stopping = False
        self._signals = StopSignals(
            self._status,
            alone=args.world_size == 1,
            speaks=state.is_world_process_zero,
            exits=self._status.ends_with_command,
        )
        self._signals.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if any process was signalled."""
        self._stopping = any(gather_from_all(self._status.stop_asked))
        if self._stopping:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise KeyboardInterrupt, as Ctrl-C does, if the run ended early."""
        if self._stopping and state.global_step < state.max_steps:
            wait_for_all()  # a launcher kills all processes when the first one exits; others may still be saving
            raise KeyboardInterrupt

    def restore(self) -> None:
        """Put the earlier handlers back."""
        if self._signals:
            self._signals.stop()
            self._signals = None


def why_slow(costs: Mapping[str, float], args: Any) -> str:
    """One line about a step of more than a minute: what took the time so far, and which settings make it shorter."""
    prompts = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    remedies = {
        "sampled": f"max_response_tokens ({args.max_response_tokens}), n ({args.n}) or prompts_per_step ({prompts}),"
        " or sample with sampler_url",
        "waited_for_teacher": f"n ({args.n}) or prompts_per_step ({prompts}), set alpha to 0 or staleness to 1, or"
        " give more teachers",
        "trained": f"prompts_per_step ({prompts}), n ({args.n}) or max_response_tokens ({args.max_response_tokens}),"
        " or train an adapter (lora)",
    }
    words = {"sampled": "sampling", "waited_for_teacher": "waiting for the teacher", "trained": "training"}
    spent = ", ".join(f"{value:.0f} s {words[name]}" for name, value in costs.items() if value >= 1)
    longest = max(costs, key=lambda name: costs[name])
    return f"this step takes more than a minute: so far {spent}. To make steps shorter, lower {remedies[longest]}"


# pyright: standard
