"""The methods that train a student: each makes batches, runs the student on one, and makes the loss of it."""

from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from pad_student.preference.config import PADConfig
from pad_student.preference.set_rewards import reward_settings
from pad_student.training.batches import batch_of, empty_batch
from pad_student.training.loss import BatchLoss, batch_loss, student_log_likelihoods
from pad_student.training.token_loss import TokenMethod
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder


class Method(Protocol):
    """What a trainer needs to know of its method."""

    def batch(self, sets: list[ScoredSet]) -> dict[str, Tensor]:
        """A micro-batch's tensors; without sets one that weighs nothing."""
        ...

    def student(self, model: nn.Module, batch: dict[str, Any], shares_prompts: bool) -> Any:
        """Run the student on a micro-batch, each prompt once if they are shared; the result goes to ``loss``."""
        ...

    def loss(self, batch: dict[str, Any], student: Any) -> BatchLoss:
        """The loss, averaged over the micro-batch's prompts, and its metrics."""
        ...


class PreferenceMethod:
    """PAD: the student's ranking of whole responses is compared with the teacher's.

    Args:
        config: the run's.
        encoder: the student's.
    """

    def __init__(self, config: PADConfig, encoder: ChatEncoder) -> None:
        self._config = config
        self._make = partial(batch_of, encoder=encoder, **reward_settings(config))
        self._nothing = partial(empty_batch, config.part_size, encoder.end_of_turn)

    def batch(self, sets: list[ScoredSet]) -> dict[str, Tensor]:
        """See ``Method``."""
        return self._make(sets) if sets else self._nothing()

    def student(self, model: nn.Module, batch: dict[str, Any], shares_prompts: bool) -> tuple[Tensor, Tensor]:
        """See ``Method``; log-likelihoods and tokens of the responses, both [P, N]."""
        return student_log_likelihoods(model, batch, self._config, shares_prompts)

    def loss(self, batch: dict[str, Any], student: tuple[Tensor, Tensor]) -> BatchLoss:
        """See ``Method``; ``batch["taught"]``, if it is there, takes each prompt's own loss."""
        made = batch_loss(batch, *student, self._config)
        if "taught" in batch:
            batch["taught"](made.losses)
        return made


def method_of(config: PADConfig, encoder: ChatEncoder) -> Method:
    """The method that a run's settings name."""
    kind = PreferenceMethod if config.method == "pad" else TokenMethod
    return kind(config, encoder)


# pyright: standard
