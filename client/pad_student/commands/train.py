"""Scored sets in, a trained student out; and what every stage that trains shares."""

import errno
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pad_student.commands.common import closing_line
from pad_student.commands.report import write_after
from pad_student.commands.settings import Training, TrainSettings
from pad_student.errors import BatchError, DiskFull, TrackerMissing
from pad_student.storage import jsonl
from pad_student.storage.run_directory import bind_to_settings
from pad_wire import ScoredSet

if TYPE_CHECKING:
    from pad_student.preference.config import PADConfig
    from pad_student.teacher.client import Teacher
    from pad_student.training.batches import TrainingRow


# Fields of TrainingArguments that do not decide what is learnt.
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
SAMPLER = ("sampler_url", "sampler_tolerance")  # a server may move, or die and be done without
MICRO_BATCH = 4  # prompts, each with all its responses: what a large student's memory takes


FULL_BYTES = 2**20


def run(settings: TrainSettings) -> None:
    """Train from scored sets; a rerun continues from the newest whole checkpoint.

    Raises:
        JsonLinesError: for a bad line.
        DatasetError: for sets that cannot be trained on.
    """
    from pad_student.model.distributed.processes import leave_group

    sets = list(jsonl.read(settings.scored, ScoredSet))
    if not sets:
        raise jsonl.JsonLinesError(f"{settings.scored}: no scored sets")
    config = configure(settings, settings.out, n=len(sets[0].responses))
    claim_output(settings, settings.out)
    if not is_done(config):
        train(settings, config, sets)
    leave_group()


def train(
    settings: Training, config: "PADConfig", rows: Sequence["TrainingRow"], teacher: "Teacher | None" = None
) -> None:
    """Train, or continue to train, and save the student with its tokenizer in the output directory.

    Args:
        settings: of the command.
        config: as ``configure`` makes it.
        rows: scored sets, or prompts where there is a teacher.
        teacher: scores what is sampled.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from pad_student.model.distributed import processes
    from pad_student.sampling.generate import load_student
    from pad_student.storage.run_directory import newest_whole, steps_asked
    from pad_student.training.before_after import BeforeAfterSamples
    from pad_student.training.trainer import PADTrainer

    logging.basicConfig(format="pad-student: %(message)s", level=logging.WARNING)
    # Steps of 1e-6 vanish in 16-bit weights; "bf16: true" computes in 16 bits and keeps these in 32.
    student = load_student(settings.model, dtype="auto" if settings.lora else "float32")
    disable_progress_bar()  # the run has one of its own; a bar for each checkpoint would tear it
    adapter = _adapter(settings.lora)
    try:
        trainer = PADTrainer(student.model, config, rows, student.encoder.tokenizer, teacher, peft_config=adapter)
    except RuntimeError as error:
        if "Callback requires" in str(error):
            raise TrackerMissing(f"report_to: {error}") from None
        raise
    if settings.report_prompts:
        usable: Any = trainer.train_dataset  # without the prompts that do not fit; each comes once in each part
        chosen_from = usable[: max(1, len(usable) // config.parts)]
        count, whole = settings.report_prompts, trainer.gathered_weights
        trainer.add_callback(BeforeAfterSamples(chosen_from, count, student.encoder, config, teacher, whole))
    checkpoint = newest_whole(Path(str(config.output_dir)))
    if checkpoint and processes.is_first() and 0 < (before := steps_asked(checkpoint)) != config.max_steps > 0:
        closing_line(
            f"{config.output_dir}: begun to end after step {before}, now after {config.max_steps}:"
            " from here on the learning rate is that of the new length"
        )
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model(str(config.output_dir))
    except torch.OutOfMemoryError:
        hint = "lower per_device_train_batch_size, or set max_forward_tokens; the result stays the same"
        raise BatchError(f"a micro-batch exceeds the GPU's memory: {hint}") from None
    except Exception as error:
        if _no_room(error, str(config.output_dir)):
            rest = "free some, and the same command continues from the checkpoint before"
            raise DiskFull(f"no space left for a checkpoint in {config.output_dir}; {rest}") from None
        raise
    if processes.is_first():
        closing_line(f"{config.output_dir}: trained for {trainer.state.global_step} steps")
        write_after(Path(str(config.output_dir)))


def _no_room(error: Exception, folder: str) -> bool:
    """Whether the disk, a quota or a file's limit was too small; each library has an error of its own for it."""
    if shutil.disk_usage(folder).free < FULL_BYTES:
        return True
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)


def claim_output(settings: Training, output_dir: Path) -> None:
    """Refuse to go on in a directory that other settings began; how long to train and what to save may change.

    Raises:
        OtherRun: naming the setting that differs.
    """
    free = {"teacher", "key", "job", "output_dir", "out", "max_steps", "sampling_batch_size", "report_prompts"}
    asked = settings.model_dump(mode="json", exclude=free | {"max_forward_tokens", "trainer", *SAMPLER})
    asked |= {name: value for name, value in settings.trainer.items() if not name.startswith(FREE_FIELDS)}
    bind_to_settings(output_dir / "settings.json", asked)


def is_done(config: "PADConfig") -> bool:
    """Whether an earlier start trained to the end; if so, make sure that the student is saved."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from pad_student.sampling.generate import load_student
    from pad_student.storage.run_directory import is_finished, newest_whole

    output_dir = Path(str(config.output_dir))
    checkpoint = newest_whole(output_dir)
    if checkpoint is None or not is_finished(checkpoint, config.max_steps, config.num_train_epochs):
        return False
    if config.process_index:
        return True  # the first process sees to the rest
    unset_hf_deepspeed_config()  # or ZeRO-3 would share the weights out among all processes
    student = load_student(str(checkpoint))
    student.model.save_pretrained(output_dir)
    tokenizer: Any = student.encoder.tokenizer
    tokenizer.save_pretrained(output_dir)
    write_after(output_dir)
    closing_line(f"{output_dir}: had been trained to its end already")
    return True


def configure(settings: Training, output_dir: Path, **own: Any) -> "PADConfig":
    """The trainer's configuration; ``own`` are fields that the command's settings do not have."""
    from pad_student.preference.config import PADConfig

    shared = {field.name for field in fields(PADConfig)} & type(settings).model_fields.keys()
    return PADConfig(
        output_dir=str(output_dir),
        max_steps=settings.max_steps or -1,
        **{name: getattr(settings, name) for name in shared - {"output_dir", "max_steps"}},
        **own,
        **_batch_sizes(settings),
    )


def _batch_sizes(settings: Training) -> dict[str, Any]:
    """The trainer's own fields, with ``prompts_per_step`` divided into micro-batches over all processes."""
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
