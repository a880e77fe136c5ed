"""``PADConfig``: transformers.TrainingArguments with the fields of Preference-Aligned Distillation."""

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import SchedulerType, TrainingArguments
from transformers.utils.import_utils import is_liger_kernel_available

from pad_student.errors import ConfigError
from pad_student.preference.losses import EXACT_LOSSES, most_responses
from pad_student.preference.settings import (
    MethodSettings,
    OnPolicySettings,
    PreferenceSettings,
    QuestionSettings,
    RefusalSettings,
    TemplateSettings,
    as_arguments,
    why_out_of_bounds,
)
from pad_student.preference.trainer_fields import in_one_line, mend_yaml, why_wrong
from pad_wire.scoring import LETTERS

FULL_RATE, ADAPTER_RATE = 8e-7, 1e-4  # an adapter's weights begin at 0 and have far to go
KERNELS_RUN_ON = ("cuda", "xpu", "npu")
LIGER_LOSSES = ("cross_entropy", "fused_linear_cross_entropy")


@dataclass
class PADConfig(
    OnPolicySettings,
    MethodSettings,
    PreferenceSettings,
    RefusalSettings,
    QuestionSettings,
    TemplateSettings,
    TrainingArguments,
):
    """Settings of a ``PADTrainer``: those of transformers' Trainer, and those of ``preference.settings``.

    Published settings (PAD, arXiv 2502.14272): n = 4, temperature 0.8, alpha 0.8, β = 10, ppd, learning rate 8e-7
    with cosine decay and 10 % warm-up (no warm-up here unless you set it), 128 prompts a step, one epoch. The rate
    of an adapter is 1e-4 unless it is set.
    ``beta_student`` is 2 here: a student's scores lie closer together than a teacher's, and equal β's leave the JSD
    flat.
    """

    lr_scheduler_type: SchedulerType | str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    logging_steps: float = field(default=1, metadata={"help": "Steps between two lines of metrics."})
    num_train_epochs: float = field(
        default=1.0, metadata={"help": "Passes over the prompts, unless max_steps is set."}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin batches in memory; on if there is a GPU."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Off: rows are response sets."})
    report_to: None | str | list[str] = field(  # noqa: RUF036 -- HfArgumentParser reads no other order
        default="none", metadata={"help": "Trackers; metrics.jsonl is always written."}
    )
    liger_kernel_config: Any = field(
        default=None,
        metadata={"help": "Liger kernels to use; those of its losses stay off, because PADTrainer has its own loss."},
    )

    def __post_init__(self) -> None:
        """Check each setting, and the settings that depend on each other.

        Raises:
            ConfigError: naming the settings.
        """
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION")
        if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" and launched in ("bf16", "fp16"):
            setattr(self, launched, True)  # DeepSpeed refuses a precision that only its own file names
        self.chooses_rate = self.learning_rate is None  # then PADTrainer knows whether there is an adapter
        self.learning_rate = FULL_RATE if self.learning_rate is None else self.learning_rate
        self.chooses_metric = self.metric_for_best_model is None  # then PADTrainer knows what is measured
        if self.eval_steps and self.eval_strategy == "no":
            self.eval_strategy = "steps"
        mend_yaml(self)
        if problem := why_out_of_bounds(self) or why_wrong(self):
            raise ConfigError(problem)
        with in_one_line():
            super().__post_init__()
        self.template_args = as_arguments(self.template_args)
        self.student_vocabulary: int | None = None  # once there is a student
        self._check_responses()
        if self.use_liger_kernel:
            self._choose_kernels()

    def _check_responses(self) -> None:
        for_pad = {"parts": self.parts > 1, "sampler_url": self.sampler_url}
        for_pad |= {"resample_temperature": self.resample_temperature is not None}
        for_pad |= {"second_set_above": self.second_set_above is not None, "skip_settled": self.skip_settled > 0}
        if self.method != "pad" and (given := [name for name, value in for_pad.items() if value]):
            raise ConfigError(f"{given[0]} is for method pad: leave it out with {self.method}")
        if self.temperature == 0 and (self.method != "adpa" or self.n > 1):
            raise ConfigError("temperature = 0 gives one response to a prompt: it needs method adpa and n = 1")
        if self.method != "pad":
            return
        if self.skip_settled and self.parts > 1:
            raise ConfigError("skip_settled needs parts = 1: a prompt comes up in all of its parts, or in none")
        if self.n % self.parts or self.part_size < 2:
            raise ConfigError(f"n = {self.n} responses cannot be split into {self.parts} parts of two or more")
        if self.resample_temperature is not None and self.resample_temperature <= self.temperature:
            raise ConfigError(
                f"resample_temperature is {self.resample_temperature}: it must be above temperature,"
                f" which is {self.temperature}"
            )
        if self.part_size > most_responses(self.loss):
            raise ConfigError(self._too_many_for_the_loss())

    def check_question(self) -> None:
        """Check that the multiple-choice question can be asked. Training from scored sets asks none.

        Raises:
            ConfigError: naming the settings, and what to change.
        """
        if self.method == "pad" and self.alpha > 0 and self.form == "listwise" and self.part_size > len(LETTERS):
            raise ConfigError(
                f"a listwise question shows {self.part_size} responses, and there are {len(LETTERS)} letters:"
                " set form to pairwise, alpha to 0 (likelihood alone), or raise parts"
            )

    @property
    def part_size(self) -> int:
        """Responses of a prompt that one step compares: of dckd the chosen and the rejected one."""
        return 2 if self.method == "dckd" else self.n // self.parts

    def _choose_kernels(self) -> None:
        """Use Liger's kernels for layers and not for losses: both would replace the model's ``forward``."""
        if not is_liger_kernel_available():
            raise ConfigError("use_liger_kernel needs liger-kernel: pip install liger-kernel")
        if self.device.type not in KERNELS_RUN_ON:
            raise ConfigError("use_liger_kernel needs a GPU: its kernels do not run on a CPU")
        chosen = self.liger_kernel_config or {}
        if asked := [name for name in LIGER_LOSSES if chosen.get(name)]:
            raise ConfigError(
                f"liger_kernel_config: {asked[0]} is a loss of its own; PADTrainer has another: leave it out"
            )
        self.liger_kernel_config = chosen | dict.fromkeys(LIGER_LOSSES, False)

    def _too_many_for_the_loss(self) -> str:
        most = most_responses(self.loss)
        other = ", or use a loss without exact sums (ppd)" if self.loss in EXACT_LOSSES else ""
        return f"{self.loss} compares at most {most} responses at once, not {self.part_size}: raise parts{other}"

    @property
    def steps_a_round(self) -> int:
        """Steps whose responses are sampled together; a multiple of ``parts`` if the decomposition is fixed."""
        return self._half_of_staleness or self._smallest_round

    @property
    def rounds_ahead(self) -> int:
        """1 if the next round is sampled before this one is trained on, so that the teacher never waits; else 0.

        A round of k steps that is sampled ahead has its last step 2k - 1 steps later, so 2k - 1 <= staleness.
        """
        return 1 if self._half_of_staleness else 0

    @property
    def _smallest_round(self) -> int:
        return self.parts if self.decompose == "fixed" else 1

    @property
    def _half_of_staleness(self) -> int:
        return (self.staleness + 1) // 2 // self._smallest_round * self._smallest_round


# pyright: standard
