"""``--dry-run``: rows, steps, teacher tokens, disk and time of a run, from one measured micro-batch or request."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from pad_student.commands.settings import ScoreSettings, TrainingSettings
from pad_student.commands.train import RECORD, decisive_settings, make_trainer
from pad_student.commands.trainer_config import configure
from pad_student.evaluation.report.collect import collect
from pad_student.storage.run_directory import check_settings
from pad_student.teacher.checks.capabilities import checked_model
from pad_student.teacher.client import Teacher
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.requests.refusals import Refusals
from pad_wire import SampledSet
from pad_wire.chat import as_text

if TYPE_CHECKING:
    from pad_student.preference.config import PADConfig
    from pad_student.training.batches import TrainingRow

MEASURED_SETS = 4
ADAM_BYTES = 8  # a trained weight's two moments, in 32 bits
OF_THE_WHOLE = ("gradient_accumulation_steps", "eval_", "do_eval", "load_best", "metric_for", "greater_is")
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


class Kept(NamedTuple):
    """The rows of the data, and why some of them are not used."""

    found: int
    used: int
    why: Sequence[str] = ()

    def __str__(self) -> str:
        """One line."""
        return f"{self.used} of {self.found} used" + "".join(f"; {each}" for each in self.why)


def of_training(
    settings: TrainingSettings,
    rows: Sequence["TrainingRow"],
    why: Sequence[str],
    found: int,
    output_dir: Path,
    teacher: Teacher | None = None,
    **own: Any,
) -> None:
    """Train on one micro-batch in a folder that is removed, and print what the whole run would take.

    Args:
        settings: the command's.
        rows: prompts or scored sets, without those that were dropped at reading.
        why: lines about those.
        found: rows before any were dropped.
        output_dir: of the run; its disk is looked at, and nothing is written to it.
        teacher: of a run that samples.
        own: fields of the trainer's configuration that are not among the settings.

    Raises:
        OtherRun: an earlier start had other settings.
    """
    check_settings(output_dir / RECORD, decisive_settings(settings))
    with TemporaryDirectory(prefix="pad-dry-run-") as folder:
        whole = configure(settings, Path(folder), **own)
        size = whole.per_device_train_batch_size
        one = settings.model_copy(update={"prompts_per_step": size * whole.world_size, "max_steps": 1})
        one = one.model_copy(update={"eval_prompts": None, "eval_grader": None, "early_stopping": None})
        fields = {"save_strategy": "no", "report_to": "none", "push_to_hub": False, "logging_steps": 1}
        one = one.model_copy(update={"trainer": _of_one_step(settings.trainer) | fields})
        trainer, _ = make_trainer(one, configure(one, Path(folder), **own), rows, teacher)
        usable = len(trainer.train_dataset)
        trainer.train()
        costs = collect(Path(folder)).costs
        steps = _steps(whole, usable, settings.prompts_per_step, samples=teacher is not None)
        times = settings.prompts_per_step / min(size, usable)
        parts = 1 if teacher else whole.parts  # of scored sets each part is a row
        reasons = [*([f"each set is {parts} rows, one a part"] if parts > 1 else []), *why]
        left_out = len(rows) * parts - usable
        reasons += [f"{left_out} left out, see above"] if left_out else []
        table = {
            "rows": str(Kept(found * parts, usable, reasons)),
            "steps": f"{steps} of {settings.prompts_per_step} prompts",
            **_teacher_line(costs, min(size, usable), steps * settings.prompts_per_step, teacher),
            "time": _time_line(costs, times, steps, min(size, usable)),
            "disk": _disk_line(trainer.model, whole, steps, output_dir),
        }
    _print(table)


def of_scoring(settings: ScoreSettings, sets: Sequence[SampledSet], held: int, teacher: Teacher) -> None:
    """Have a few sets scored, and print what all of them would take.

    Raises:
        TeacherRefused: for one of these sets, or for one of the largest, if a run would end for it.
    """
    options, refusals = ScoreOptions.of(settings, settings.truncate), Refusals(settings.on_refused)
    card = checked_model(teacher, options)
    ask = partial(teacher.score_stream, options=options, refusals=refusals)
    began = time.monotonic()
    measured = list(islice(sets, MEASURED_SETS))
    list(ask(measured, sets_per_request=MEASURED_SETS) if measured else ())
    seconds, tokens = time.monotonic() - began, teacher.tokens_scored
    share = len(sets) / max(1, len(measured))
    largest = [each for each in _largest(sets) if each not in measured]
    list(ask(largest))
    table = {
        "sets": f"{len(sets)} to score, {held} are scored already",
        "teacher": f"{card.id}: about {tokens * share:,.0f} tokens ({tokens:,} for {len(measured)} sets)",
        "time": f"about {duration(seconds * share)}, one request after another"
        f" ({seconds:.1f} s for {len(measured)} sets; several at a time are faster)",
    }
    if refusals.counts:
        asked = len(measured) + len(largest)
        table["refused"] = f"of {asked} sets asked, the largest among them{refusals.note()}"
    _print(table)


def duration(seconds: float) -> str:
    """Two units, as in ``1 h 12 min``."""
    for at, (size, unit) in enumerate(UNITS):
        if seconds >= size:
            rest = seconds % size
            below, smaller = UNITS[at + 1] if at + 1 < len(UNITS) else (1, "s")
            return f"{seconds // size:.0f} {unit} {rest // below:.0f} {smaller}"
    return f"{seconds:.1f} s"


def _largest(sets: Sequence[SampledSet]) -> list[SampledSet]:
    """The sets that come closest to the teacher's limits: that of the most responses, and the longest one."""
    if not sets:
        return []
    most = max(sets, key=lambda each: len(each.responses))
    longest = max(sets, key=lambda each: len(as_text(each.prompt)) + max(len(r.text) for r in each.responses))
    return [most] if most is longest else [most, longest]


def _steps(config: "PADConfig", rows: int, prompts_per_step: int, *, samples: bool) -> int:
    """The optimiser steps of a run over the rows of its dataset, as the Trainer counts them."""
    from pad_student.training.prompt_order import DecomposedOrder

    if config.max_steps > 0:
        return config.max_steps
    if samples and config.parts > 1:
        rows = len(DecomposedOrder(rows, prompts_per_step, config.parts, config.seed))
    return math.ceil(config.num_train_epochs * max(1, math.ceil(rows / prompts_per_step)))


def _of_one_step(trainer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trainer.items() if not name.startswith(OF_THE_WHOLE)}


def _teacher_line(costs: Mapping[str, float], measured: int, prompts: int, teacher: Teacher | None) -> dict[str, str]:
    if teacher is None:
        return {}
    tokens = costs.get("teacher_tokens", 0) / measured
    card = teacher.model()
    apart = card.reference if teacher.reference_fingerprint else None
    names = f"{card.id} with {apart.model} of another service" if apart else card.id
    return {"teacher": f"{names}: about {tokens * prompts:,.0f} tokens, {tokens:,.0f} a prompt"}


def _time_line(costs: Mapping[str, float], times: float, steps: int, measured: int) -> str:
    phases = {name.removeprefix("seconds/"): v * times for name, v in costs.items() if name.startswith("seconds/")}
    step = sum(phases.values())
    parts = ", ".join(f"{name.replace('_', ' ')} {seconds:.1f} s" for name, seconds in phases.items())
    return f"about {duration(step * steps)}: {step:.1f} s a step ({parts}), measured on {measured} prompts"


def _disk_line(model: Any, config: "PADConfig", steps: int, output_dir: Path) -> str:
    trained = [each for each in model.parameters() if each.requires_grad]
    saved = trained if hasattr(model, "peft_config") else list(model.parameters())
    weights = sum(each.numel() * each.element_size() for each in saved)
    checkpoint = weights + ADAM_BYTES * sum(each.numel() for each in trained)
    count = 0
    if str(getattr(config.save_strategy, "value", config.save_strategy)) != "no":
        every = config.save_steps if config.save_steps >= 1 else max(1, math.ceil(config.save_steps * steps))
        count = min(config.save_total_limit or steps, int(steps // every) + 1)
    there = next(each for each in (output_dir, *output_dir.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    needed = weights + count * checkpoint
    warning = "; it will not fit" if needed > free else ""
    parts = f"the student {_size(weights)}, {count} checkpoints of {_size(checkpoint)}"
    return f"{_size(needed)} ({parts}); {_size(free)} free{warning}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _print(table: Mapping[str, str]) -> None:
    for name, text in table.items():
        print(f"{name:<8} {text}")
    print("nothing was written")


# pyright: standard
