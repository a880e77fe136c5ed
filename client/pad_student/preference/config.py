"""``PADConfig``: transformers.TrainingArguments with the fields of Preference-Aligned Distillation."""

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.utils.import_utils import is_liger_kernel_available

from pad_student.errors import StudentError
from pad_student.preference.losses import EXACT_LOSSES, LOSSES, most_responses
from pad_wire.scoring import LETTERS

KERNELS_RUN_ON = ("cuda", "xpu", "npu")
LIGER_LOSSES = ("cross_entropy", "fused_linear_cross_entropy")


class ConfigError(StudentError):
    """Fields that do not go together."""


@dataclass
class PADConfig(TrainingArguments):
    """How a student learns a teacher's preferences.

    Published settings (PAD, arXiv 2502.14272): n = 4, temperature 0.8, alpha 0.8, β = 10, ppd, learning rate 8e-7
    with cosine decay and 10 % warm-up (here none unless asked for), 128 prompts a step, one epoch. ``beta_student``
    is 2 here because equal β's leave the JSD flat: students' scores lie closer together than teachers'.
    """

    n: int = field(default=4, metadata={"help": "responses a prompt"})
    parts: int = field(
        default=1,
        metadata={
            "help": "preference decomposing: each prompt's n responses are used in this many steps of n / parts"
        },
    )
    decompose: str = field(
        default="on-policy",
        metadata={"help": "on-policy: each part is sampled from the student as it then is; fixed: all at once"},
    )
    temperature: float = field(default=0.8, metadata={"help": "sampling temperature"})
    max_response_tokens: int = field(default=1024, metadata={"help": "where a sampled response is cut"})
    sampling_batch_size: int = field(
        default=16, metadata={"help": "prompts sampled at once: what bounds the memory of sampling"}
    )
    sampler_url: str | None = field(
        default=None,
        metadata={"help": "a vLLM server that samples with the student's weights; by default the trainer does it"},
    )
    sampler_tolerance: float = field(
        default=0.1,
        metadata={"help": "nats a token that the server's log-probabilities may be off the student's own"},
    )
    staleness: int = field(
        default=0,
        metadata={"help": "steps that responses may be behind the student: 0 samples anew for each, 1 a step ahead"},
    )
    form: str = field(default="listwise", metadata={"help": "form of the multiple-choice question"})
    orders: str = field(default="cyclic", metadata={"help": "option orders that are averaged"})
    alpha: float = field(default=0.8, metadata={"help": "weight of the log selection probability in the reward"})
    beta_teacher: float = field(default=10.0, metadata={"help": "sharpness of the teacher's preferences"})
    beta_student: float = field(default=2.0, metadata={"help": "sharpness of the student's preferences"})
    normalization: str = field(default="mean", metadata={"help": "log-likelihoods by mean, sum or bytes"})
    loss: str = field(default="ppd", metadata={"help": "one of " + ", ".join(LOSSES)})
    anchor: float = field(default=0.0, metadata={"help": "weight of the NLL of the teacher's best response"})
    max_forward_tokens: int | None = field(
        default=None,
        metadata={"help": "tokens in a forward pass; a micro-batch of more takes several, to the same gradient"},
    )
    learning_rate: float = field(default=8e-7, metadata={"help": "highest learning rate"})
    lr_scheduler_type: Any = field(default="cosine", metadata={"help": "learning rate schedule"})
    logging_steps: float = field(default=1, metadata={"help": "the signal's metrics are worth every step"})
    num_train_epochs: float = field(
        default=1.0, metadata={"help": "passes over the prompts where max_steps is not set"}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept"})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "warns on a CPU where it is not of use"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "rows are response sets"})
    report_to: Any = field(default="none", metadata={"help": "trackers; metrics.jsonl is always written"})
    liger_kernel_config: Any = field(
        default=None,
        metadata={"help": "which of liger's kernels; those of its losses stay off, for the loss is made here"},
    )

    def __post_init__(self) -> None:
        """Check what one field alone cannot tell.

        Raises:
            ConfigError: naming the fields.
        """
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION")
        if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" and launched in ("bf16", "fp16"):
            setattr(self, launched, True)  # as DeepSpeed is told; it wants to hear the same twice
        super().__post_init__()
        if self.loss not in LOSSES:
            raise ConfigError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.decompose not in ("on-policy", "fixed"):
            raise ConfigError(f"decompose must be on-policy or fixed, got {self.decompose!r}")
        if self.parts < 1 or self.n % self.parts or self.n // self.parts < 2:
            raise ConfigError(f"n = {self.n} responses cannot be split into {self.parts} parts of two or more")
        if self.part_size > most_responses(self.loss):
            raise ConfigError(self._too_many_for_the_loss())
        if self.max_forward_tokens is not None and self.max_forward_tokens < 1:
            raise ConfigError(f"max_forward_tokens must be 1 or more, got {self.max_forward_tokens}")
        if self.sampler_tolerance <= 0:
            raise ConfigError(f"sampler_tolerance must be above 0, got {self.sampler_tolerance}")
        if self.staleness < 0 or min(self.beta_teacher, self.beta_student) <= 0 or not 0 <= self.alpha <= 1:
            raise ConfigError("staleness must be 0 or more, both betas above 0, and alpha in [0, 1]")
        if self.use_liger_kernel:
            self._choose_kernels()

    def check_question(self) -> None:
        """Refuse a multiple-choice question that no teacher could be asked; scored sets need none.

        Raises:
            ConfigError: naming the fields, and what to change.
        """
        if self.alpha > 0 and self.form == "listwise" and self.part_size > len(LETTERS):
            raise ConfigError(
                f"a listwise question shows {self.part_size} responses, and there are {len(LETTERS)} letters:"
                " set form to pairwise, alpha to 0 (likelihood alone), or raise parts"
            )

    @property
    def part_size(self) -> int:
        """Responses whose rankings are compared at once."""
        return self.n // self.parts

    def _choose_kernels(self) -> None:
        """Liger's kernels for layers, not for losses: those replace the ``forward`` that is replaced here."""
        if not is_liger_kernel_available():
            raise ConfigError("use_liger_kernel needs liger-kernel: pip install liger-kernel")
        if self.device.type not in KERNELS_RUN_ON:
            raise ConfigError("use_liger_kernel needs a GPU: its kernels do not run on a CPU")
        chosen = self.liger_kernel_config or {}
        if asked := [name for name in LIGER_LOSSES if chosen.get(name)]:
            raise ConfigError(f"liger_kernel_config: {asked[0]} is a loss of its own; PADTrainer has another")
        self.liger_kernel_config = chosen | dict.fromkeys(LIGER_LOSSES, False)

    def _too_many_for_the_loss(self) -> str:
        most = most_responses(self.loss)
        other = ", or use a loss without exact sums (ppd)" if self.loss in EXACT_LOSSES else ""
        return f"{self.loss} compares at most {most} responses at once, not {self.part_size}: raise parts{other}"

    @property
    def steps_a_round(self) -> int:
        """Steps whose responses are sampled together; a fixed decomposition needs whole multiples of its parts."""
        return self._half_of_staleness or self._smallest_round

    @property
    def rounds_ahead(self) -> int:
        """1 where the next round is sampled before this one is trained on, so that the teacher never waits; or 0.

        The last step of a round sampled ahead is two rounds less one step behind, which is what staleness allows.
        """
        return 1 if self._half_of_staleness else 0

    @property
    def _smallest_round(self) -> int:
        return self.parts if self.decompose == "fixed" else 1

    @property
    def _half_of_staleness(self) -> int:
        return (self.staleness + 1) // 2 // self._smallest_round * self._smallest_round
