"""``pad-student train``: scored sets in, a trained student out; and the training that ``distill`` shares."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pad_student.commands.common import closing_line, template_options
from pad_student.commands.report import write_after
from pad_student.commands.settings import TrainingSettings, TrainSettings
from pad_student.errors import BatchError, DiskFull, JsonLinesError, TrackerMissing
from pad_student.storage import jsonl
from pad_student.storage.contents import digest_of_file, model_digests
from pad_student.storage.locks import DirectoryClaim
from pad_student.storage.run_directory import (
    bind_to_settings,
    check_settings,
    is_finished,
    newest_whole,
    steps_asked,
)
from pad_wire import ScoredSet
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
)
FREE_SETTINGS = (
    "teacher",
    "key",
    "job",
    "output_dir",
    "out",
    "scored",  # its rows count
    "max_steps",
    "sampling_batch_size",
    "report_prompts",
    "max_forward_tokens",
    "trainer",
)
SAMPLER = ("sampler_url", "sampler_tolerance")  # the server may move, or be left out after it died
MICRO_BATCH = 4  # prompts with all their responses: as much as fits in memory with a large student
FULL_BYTES = 2**20  # a disk with less free space is full


def run(settings: TrainSettings) -> None:
    """Train from scored sets; a rerun continues from the newest whole checkpoint.

    Raises:
        JsonLinesError: for a bad line, and for a file without sets.
        DatasetError: for sets that cannot be trained on.
    """
    from pad_student.model.distributed.processes import leave_group

    sets = list(jsonl.read(settings.scored, ScoredSet))
    if not sets:
        raise JsonLinesError(f"{settings.scored}: no scored sets")
    config = configure(settings, settings.out, n=len(sets[0].responses))
    with output(settings, settings.out) as bind:
        if not is_done(config):
            train(settings, config, sets, bind=bind)
    leave_group()


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
    from transformers.utils.logging import disable_progress_bar

    from pad_student.model.distributed.processes import is_first
    from pad_student.sampling.generate import load_student
    from pad_student.training.callbacks import NewLength
    from pad_student.training.trainer import PADTrainer

    logging.basicConfig(format="pad-student: %(message)s", level=logging.WARNING)
    _check_trackers(config)
    # 16-bit weights would lose steps of 1e-6. With "bf16: true" weights stay in 32 bits, and 16 bits compute.
    dtype = "auto" if settings.lora else "float32"
    student = load_student(settings.model, dtype, template_options(settings))
    disable_progress_bar()  # transformers' bar for each checkpoint would break the run's own
    adapter = _adapter(settings.lora)
    trainer = PADTrainer(student.model, config, rows, student.encoder.tokenizer, teacher, peft_config=adapter)
    bind()
    if settings.report_prompts:
        trainer.add_callback(_samples_for_the_report(trainer, settings.report_prompts, student.encoder, teacher))
    output_dir = Path(str(config.output_dir))
    checkpoint = newest_whole(output_dir)
    if checkpoint and is_first():
        trainer.add_callback(NewLength(steps_asked(checkpoint), closing_line))
    _fit(trainer, checkpoint, output_dir)
    if is_first():
        closing_line(f"{output_dir}: trained for {trainer.state.global_step} steps")
        write_after(output_dir)


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

    usable: Any = trainer.train_dataset  # without prompts that do not fit; each prompt comes once in each part
    rows = usable[: max(1, len(usable) // trainer.args.parts)]
    return BeforeAfterSamples(rows, count, encoder, trainer.args, teacher, trainer.gathered_weights)


def _fit(trainer: "PADTrainer", checkpoint: Path | None, output_dir: Path) -> None:
    from torch import OutOfMemoryError

    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
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

    record = output_dir / "settings.json"
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


def is_done(config: "PADConfig") -> bool:
    """Whether an earlier start trained to the end; if so, save the student if it is not saved yet."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from pad_student.sampling.generate import load_encoder, load_student

    output_dir = Path(str(config.output_dir))
    checkpoint = newest_whole(output_dir)
    if checkpoint is None or not is_finished(checkpoint, config.max_steps, config.num_train_epochs):
        return False
    if config.process_index:
        return True  # the first process does the rest
    unset_hf_deepspeed_config()  # otherwise ZeRO-3 would divide the weights among all processes
    if adapter := list(checkpoint.glob("adapter_*")):
        encoder = load_encoder(str(checkpoint))
        for path in adapter:
            shutil.copy2(path, output_dir)
    else:
        student = load_student(str(checkpoint))
        encoder = student.encoder
        student.model.save_pretrained(output_dir)
    tokenizer: Any = encoder.tokenizer
    tokenizer.save_pretrained(output_dir)
    write_after(output_dir)
    closing_line(f"{output_dir}: already trained to its end")
    return True


def configure(settings: TrainingSettings, output_dir: Path, **own: Any) -> "PADConfig":
    """The trainer's configuration; ``own`` holds fields that are not among the command's settings."""
    from pad_student.preference.config import PADConfig

    shared = {field.name for field in fields(PADConfig)} & type(settings).model_fields.keys()
    return PADConfig(
        output_dir=str(output_dir),
        max_steps=settings.max_steps or -1,
        **{name: getattr(settings, name) for name in shared - {"output_dir", "max_steps"}},
        **own,
        **_batch_sizes(settings),
    )


def _batch_sizes(settings: TrainingSettings) -> dict[str, Any]:
    """The given fields of TrainingArguments, and those that divide ``prompts_per_step`` into micro-batches."""
    given = dict(settings.trainer)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    share = max(1, settings.prompts_per_step // processes)
    usual = max(size for size in range(1, MICRO_BATCH + 1) if share % size == 0)
    micro = given.setdefault("per_device_train_batch_size", usual)
    accumulated, left = divmod(settings.prompts_per_step, micro * processes)
    if left or given.get("gradient_accumulation_steps", accumulated) != accumulated:
        raise BatchError(
            f"prompts_per_step = {settings.prompts_per_step} is not per_device_train_batch_size = {micro}"
            f" x {processes} processes x a whole gradient_accumulation_steps"
        )
    return given | {"gradient_accumulation_steps": accumulated}


def _adapter(lora: int | dict[str, Any] | None) -> Any:
    if lora is None:
        return None
    from peft import LoraConfig

    chosen = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else lora
    return LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": "all-linear", **chosen})


# pyright: standard
