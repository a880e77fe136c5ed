"""Whether a run is trained already: to its last step, or until ``early_stopping`` ended it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pad_student.commands.common import closing_line
from pad_student.commands.report import write_after
from pad_student.commands.settings import TrainingSettings
from pad_student.storage.modes import readable_as_umask_says
from pad_student.storage.run_directory import best_checkpoint, is_finished, newest_whole
from pad_wire.atomic import write_atomically

if TYPE_CHECKING:
    from pad_student.preference.config import PADConfig

ENDED = "ended.json"  # says that a run stopped early, and by which setting


def note_early_end(settings: TrainingSettings, output_dir: Path, step: int) -> None:
    """Keep for later starts at which step, and by which ``early_stopping``, a run ended."""
    if settings.early_stopping:
        ended = {"step": step, "early_stopping": settings.early_stopping}
        write_atomically(output_dir / ENDED, orjson.dumps(ended))


def is_done(settings: TrainingSettings, config: "PADConfig") -> bool:
    """Whether an earlier start trained to the end; if so, save the student if it is not saved yet.

    A run that ended by ``early_stopping`` goes on if that allows more evaluations now, or is left out.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from pad_student.sampling.generate import load_encoder, load_student

    output_dir = Path(str(config.output_dir))
    checkpoint = newest_whole(output_dir)
    if checkpoint is None:
        return False
    if not is_finished(checkpoint, config.max_steps, config.num_train_epochs):
        return _stopped_early(settings, output_dir)
    if config.load_best_model_at_end:
        checkpoint = best_checkpoint(checkpoint) or checkpoint
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
        readable_as_umask_says(output_dir)
    tokenizer: Any = encoder.tokenizer
    tokenizer.save_pretrained(output_dir)
    write_after(output_dir)
    closing_line(f"{output_dir}: already trained to its end")
    return True


def _stopped_early(settings: TrainingSettings, output_dir: Path) -> bool:
    """Whether an earlier start stopped early, and would again."""
    if not (output_dir / ENDED).exists() or settings.early_stopping is None:
        return False
    ended = orjson.loads((output_dir / ENDED).read_bytes())
    if settings.early_stopping > ended["early_stopping"]:
        return False
    closing_line(
        f"{output_dir}: already trained; early_stopping = {ended['early_stopping']} ended it at step {ended['step']}."
        " With a larger one, or without it, the run goes on"
    )
    return True


# pyright: standard
