"""``pad-student train``: scored sets in, a trained student out; and the training that ``distill`` shares."""

import errno
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pad_student.commands.common import closing_line, template_options
from pad_student.commands.finished import is_done, note_early_end
from pad_student.commands.next_steps import next_steps
from pad_student.commands.report import write_after
from pad_student.commands.settings import TrainingSettings, TrainSettings
from pad_student.commands.trainer_config import adapter, configure
from pad_student.data.response_sets import ScoredLine
from pad_student.errors import BatchError, DiskFull, JsonLinesError, TrackerMissing
from pad_student.storage.contents import digest_of_file, model_digests
from pad_student.storage.locks import DirectoryClaim
from pad_student.storage.run_directory import (
    bind_to_settings,
    check_settings,
    newest_whole,
    steps_asked,
)
from pad_student.storage.stored_lines import StoredLines
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.requests.refusals import refused_note
from pad_wire.chat import ChatEncoder

if TYPE_CHECKING:
    from pad_student.preference.config import PADConfig
    from pad_student.teacher.client import Teacher
    from pad_student.training.batches import TrainingRow
    from pad_student.training.before_after import BeforeAfterSamples
    from pad_student.training.trainer import PADTrainer

# Beginnings of the names of TrainingArguments that do not decide what the student learns.
FREE_FIELDS = (
    "num_train_epochs",
    "save",
    "logging",
    "log_",
    "report",
    "push",
    "hub",
    "disable",
    "dataloader",
    "per_device",
    "eval",
    "load_best",
    "metric_for",
    "greater_is",
)
FREE_SETTINGS = (
    "teacher",
    "reference",
    "key",
    "reference_key",
    "job",
    "timeout",
    "patience",
    "on_refused",
    "most_refused",
    "keep_rounds",
    "output_dir",
    "out",
    "scored",  # its rows count
    "max_steps",
    "sampling_batch_size",
    "report_prompts",
    "eval_prompts",
    "eval_grader",
    "early_stopping",
    "max_forward_tokens",
    "trainer",
    "dry_run",
)
SAMPLER = ("sampler_url", "sampler_tolerance")  # the server may move, or be left out after it died
RECORD = "settings.json"
FULL_BYTES = 2**20  # a disk with less free space is full


def run(settings: TrainSettings) -> None:
    """Train from scored sets; a rerun continues from the newest whole checkpoint.

    Raises:
        JsonLinesError: for a bad line, and for a file without sets.
        DatasetError: for sets that cannot be trained on.
    """
    from pad_student.model.distributed.processes import leave_group

    sets = StoredLines(settings.scored, ScoredLine)
    if not sets:
        raise JsonLinesError(f"{settings.scored}: no scored sets")
    n = len(sets[0].responses)
    if settings.dry_run:
        from pad_student.commands.dry_run import of_training

        return of_training(settings, sets, (), len(sets), settings.out, n=n)
    config = configure(settings, settings.out, n=n)
    with output(settings, settings.out) as bind:
        if not is_done(settings, config):
            train(settings, config, sets, bind=bind)
    leave_group()
    return None


def train(
    settings: TrainingSettings,
    config: "PADConfig",
    rows: Sequence["TrainingRow"],
    teacher: "Teacher | None" = None,
    *,
    bind: Callable[[], None],
) -> None:
    """Train from the newest whole checkpoint, and save the student with its tokenizer in the output directory.

    Args:
        settings: the command's.
        config: the trainer's, from ``configure``.
        rows: scored sets, or prompts if there is a teacher.
        teacher: scores the responses that are sampled during training.
        bind: binds the output directory to the settings, once model, rows and teacher are known to be usable.

    Raises:
        TrackerMissing: ``report_to`` names a tracker that is not installed.
        BatchError: a micro-batch exceeds the GPU's memory.
        DiskFull: a checkpoint does not fit.
    """
    _check_trackers(config)
    trainer, encoder = make_trainer(settings, config, rows, teacher)
    bind()
    output_dir = Path(str(config.output_dir))
    checkpoint = newest_whole(output_dir)
    _add_callbacks(trainer, settings, checkpoint, encoder, teacher)
    _fit(trainer, checkpoint, output_dir)
    _close(trainer, settings, output_dir)


def _add_callbacks(
    trainer: "PADTrainer",
    settings: TrainingSettings,
    checkpoint: Path | None,
    encoder: ChatEncoder,
    teacher: "Teacher | None",
) -> None:
    from pad_student.model.distributed.processes import is_first
    from pad_student.training.callbacks import EarlyStopping, NewLength

    if settings.early_stopping:
        trainer.add_callback(EarlyStopping(settings.early_stopping))
    if settings.report_prompts:
        trainer.add_callback(_samples_for_the_report(trainer, settings.report_prompts, encoder, teacher))
    if checkpoint and is_first():
        trainer.add_callback(NewLength(steps_asked(checkpoint), closing_line))


def _close(trainer: "PADTrainer", settings: TrainingSettings, output_dir: Path) -> None:
    """Say how the run ended, and write its report."""
    from pad_student.model.distributed.processes import is_first

    refused = trainer.refused
    if not is_first():
        return
    steps, best = trainer.state.global_step, trainer.state.best_global_step
    if early := steps < trainer.state.max_steps:
        note_early_end(settings, output_dir, steps)
    kept = f", and the student is that of step {best}" if trainer.args.load_best_model_at_end and best else ""
    said = f"trained for {steps} steps{', stopped early' * early}{kept}{refused_note(refused)}"
    closing_line(f"{output_dir}: {said}")
    write_after(output_dir)
    for line in next_steps(settings, output_dir):
        closing_line(line)


def make_trainer(
    settings: TrainingSettings, config: "PADConfig", rows: Sequence["TrainingRow"], teacher: "Teacher | None"
) -> tuple["PADTrainer", ChatEncoder]:
    """Load the student; its trainer and its encoder."""
    from transformers.utils.logging import disable_progress_bar

    from pad_student.evaluation.grading import load_grader
    from pad_student.sampling.generate import load_student
    from pad_student.training.batches import as_rows
    from pad_student.training.trainer import PADTrainer

    logging.basicConfig(format="pad-student: %(message)s", level=logging.WARNING)
    # 16-bit weights would lose steps of 1e-6. With "bf16: true" weights stay in 32 bits, and 16 bits compute.
    dtype = "auto" if settings.lora else "float32"
    disable_progress_bar()  # transformers' bars, of weights and of each checkpoint, would break the run's own
    with STATUS.phase("loading the student"):
        student = load_student(settings.model, dtype, template_options(settings), settings.allow)
    held_out: Any = settings.eval_prompts
    if held_out is not None:  # in the conversation of the training prompts
        held_out = as_rows(held_out, system=getattr(settings, "system", None))
    trainer = PADTrainer(
        student.model,
        config,
        rows,
        student.encoder.tokenizer,
        teacher,
        peft_config=adapter(settings.lora),
        eval_dataset=held_out,
        grader=load_grader(settings.eval_grader) if settings.eval_grader else None,
        allow=settings.allow,
    )
    return trainer, student.encoder


def _check_trackers(config: "PADConfig") -> None:
    """Make each tracker once, before anything large is loaded: its own error names the package to install."""
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    try:
        for tracker in get_reporting_integration_callbacks(config.report_to):
            tracker()
    except (ImportError, RuntimeError, ValueError) as error:
        raise TrackerMissing(f"report_to: {error}") from None


def _samples_for_the_report(
    trainer: "PADTrainer", count: int, encoder: ChatEncoder, teacher: "Teacher | None"
) -> "BeforeAfterSamples":
    from pad_student.training.before_after import BeforeAfterSamples

    usable: Any = trainer.train_dataset  # without prompts that do not fit
    if teacher is None:  # scored sets: the first part of each comes first
        usable = usable[: max(1, len(usable) // trainer.args.parts)]
    return BeforeAfterSamples(usable, count, encoder, trainer.args, teacher, trainer.gathered_weights)


def _fit(trainer: "PADTrainer", checkpoint: Path | None, output_dir: Path) -> None:
    from torch import OutOfMemoryError

    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        with STATUS.phase("saving the student"):
            trainer.save_model(str(output_dir))
    except OutOfMemoryError:
        hint = "lower per_device_train_batch_size, or set max_forward_tokens; the result stays the same"
        raise BatchError(f"a micro-batch exceeds the GPU's memory: {hint}") from None
    except Exception as error:
        if _is_disk_full(error, output_dir):
            hint = "free some space; the same command then continues from the previous checkpoint"
            raise DiskFull(f"no space left for a checkpoint in {output_dir}; {hint}") from None
        raise


def _is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether the disk, a quota or a file's limit was too small; each library has its own error for it."""
    if shutil.disk_usage(folder).free < FULL_BYTES:
        return True
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)


@contextmanager
def output(settings: TrainingSettings, output_dir: Path) -> Iterator[Callable[[], None]]:
    """Claim the output directory for the block; give the function that binds it to the settings.

    Nothing is bound before that is called: a misspelt model must not bind a directory.

    Raises:
        InUse: another process trains into it.
        OtherRun: an earlier start had other settings, weights or rows; named.
    """
    from pad_student.model.distributed.processes import fail_together, is_first

    record = output_dir / RECORD
    asked: dict[str, Any] = {}
    with ExitStack() as claimed:

        def claim() -> None:
            if is_first():
                claimed.enter_context(DirectoryClaim(output_dir))
                asked.update(decisive_settings(settings))
                check_settings(record, asked)

        fail_together(claim)
        yield lambda: bind_to_settings(record, asked) if is_first() else None


def decisive_settings(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that decide what the student learns. Only how long to train and what to save may change later.

    A field of TrainingArguments with its default value counts as not given.
    """
    from pad_student.preference.config import PADConfig

    usual = {field.name: field.default for field in fields(PADConfig)}
    asked = settings.model_dump(mode="json", exclude={*FREE_SETTINGS, *SAMPLER})
    asked |= {
        name: value
        for name, value in settings.trainer.items()
        if not name.startswith(FREE_FIELDS) and value != usual.get(name, MISSING)
    }
    if isinstance(settings, TrainSettings):
        asked["scored_rows_digest"] = digest_of_file(settings.scored)
    return asked | model_digests(settings.model)


# pyright: standard
