"""From a command's settings to the trainer's configuration and its adapter."""

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pad_student.commands.settings import TrainingSettings
from pad_student.errors import BatchError, ConfigError

if TYPE_CHECKING:
    from pad_student.preference.config import PADConfig

EVAL_STEPS = 20
MICRO_BATCH = 4  # prompts with all their responses: as much as fits in memory with a large student


def configure(settings: TrainingSettings, output_dir: Path, **own: Any) -> "PADConfig":
    """The trainer's configuration; ``own`` holds fields that are not among the command's settings."""
    from pad_student.preference.config import PADConfig

    shared = {field.name for field in fields(PADConfig)} & type(settings).model_fields.keys()
    return PADConfig(
        output_dir=str(output_dir),
        max_steps=settings.max_steps or -1,
        **{name: getattr(settings, name) for name in shared - {"output_dir", "max_steps"}},
        **own,
        **_evaluation(settings, _batch_sizes(settings)),
    )


def _evaluation(settings: TrainingSettings, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` with the fields of TrainingArguments that an evaluation needs, unless they are given."""
    if settings.eval_prompts is None:
        if settings.early_stopping or settings.eval_grader:
            raise ConfigError("early_stopping and eval_grader need eval_prompts: held-out prompts to judge by")
        return given
    given = {"eval_strategy": "steps", "eval_steps": EVAL_STEPS, **given}
    keeps = given.get("save_strategy") not in ("no", False)
    given = {"load_best_model_at_end": keeps, **given}
    if given["load_best_model_at_end"]:
        given.setdefault("save_steps", given["eval_steps"])  # each checkpoint has been judged
    elif settings.early_stopping:
        raise ConfigError(
            "early_stopping needs the best checkpoint: leave out save_strategy and load_best_model_at_end"
        )
    return given


def _batch_sizes(settings: TrainingSettings) -> dict[str, Any]:
    """The given fields of TrainingArguments, and those that divide ``prompts_per_step`` into micro-batches."""
    given = dict(settings.trainer)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    share = max(1, settings.prompts_per_step // processes)
    usual = max(size for size in range(1, MICRO_BATCH + 1) if share % size == 0)
    micro = given.setdefault("per_device_train_batch_size", usual)
    if not isinstance(micro, int) or micro < 1:
        raise BatchError(f"per_device_train_batch_size: expected 1 or more, got {micro!r}")
    accumulated, left = divmod(settings.prompts_per_step, micro * processes)
    if left or given.get("gradient_accumulation_steps", accumulated) != accumulated:
        raise BatchError(
            f"prompts_per_step = {settings.prompts_per_step} is not per_device_train_batch_size = {micro}"
            f" x {processes} processes x a whole gradient_accumulation_steps"
        )
    return given | {"gradient_accumulation_steps": accumulated}


def adapter(lora: int | dict[str, Any] | None) -> Any:
    """The adapter that the setting describes; None for none.

    Raises:
        ConfigError: peft refuses it.
    """
    if lora is None:
        return None
    from peft import LoraConfig

    chosen = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else lora
    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": "all-linear", **chosen})
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"lora: {' '.join(str(error).split())}") from None


# pyright: standard
