"""The changes to transformers.Trainer below the loss: each step has one gradient, however its prompts are divided."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer

from pad_student.errors import ConfigError, SamplingError
from pad_student.evaluation.report.card import model_card
from pad_student.evaluation.report.collect import collect
from pad_student.model.distributed.processes import gather_from_all, wait_for_all
from pad_student.model.distributed.sharding import gathered_weights
from pad_student.model.distributed.step_weights import NumberedRows
from pad_student.on_policy.source import OnPolicySource
from pad_student.storage.modes import readable_as_umask_says
from pad_student.storage.terminal.phases import Phase
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.errors import TeacherError
from pad_student.training.heldout.choose import Evaluation


class BaseTrainer(Trainer):
    """Adds up losses that carry the weight of their micro-batch, and corrects a step that lost some of its prompts.

    It also gathers sharded weights, keeps the precision of rewards, and writes this project's model card.
    """

    evaluation: Evaluation | None = None
    _source: OnPolicySource | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_is_scaled_for_ga = True  # by the weight of each micro-batch in its step
        self._training = Phase("training")
        self.begin_step()

    def begin_step(self) -> None:
        """Forget the losses of the step before."""
        self._step_loss: Tensor | float = 0.0
        self._training.done = 0

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """As ``transformers.Trainer.training_step``.

        The step's last micro-batch has ``rescale`` if some of its prompts got no scores: loss and gradient are then
        those of the mean over the others.
        """
        if not self._training.done:
            self._training.restart("training")
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._training.update()
        self._step_loss = self._step_loss + loss
        if (factor := inputs.get("rescale", 1.0)) == 1:
            return loss
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        return loss + self._step_loss * (factor - 1)

    def evaluate(self, eval_dataset: Any = None, *args: Any, metric_key_prefix: str = "eval", **_: Any) -> Any:
        """Evaluate on the held-out rows that the trainer was made with, and log the metrics.

        Raises:
            ConfigError: the trainer has no ``eval_dataset``, or another one is given here.
            OtherRun: earlier evaluations in the output directory are of other rows.
        """
        if self.evaluation is None or eval_dataset is not None:
            raise ConfigError("eval_dataset: give PADTrainer the held-out rows when it is made")
        model, step = self.accelerator.unwrap_model(self.model_wrapped), self.state.global_step
        try:
            if not self.is_in_train:
                self.evaluation.begin(model, step)
            measured = self.evaluation.measure(model, step)
        except (TeacherError, SamplingError):
            if self.is_in_train:
                self._save_checkpoint(self.model, trial=None)  # type: ignore[arg-type]
            raise
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @property
    def refused(self) -> dict[str, int]:
        """Sets of all processes that the teacher refused since this start, by the code of the refusal; collective."""
        counts = Counter[str]()
        for each in gather_from_all(dict(self._source.refused if self._source else {})):
            counts.update(each)
        return dict(counts)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As ``transformers.Trainer.get_train_dataloader``, of rows with their places in the dataset."""
        rows: Any = self.train_dataset
        self.train_dataset = NumberedRows(rows)  # type: ignore[assignment]
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = rows

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Gather sharded weights for the block; a process may then run the student alone. Entering is collective."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        reshard: Any = plugin and plugin.reshard_after_forward
        with gathered_weights(self.model_wrapped, reshard), self.accelerator.autocast():  # type: ignore[arg-type]
            yield

    def create_model_card(self, *, model_name: str | None = None, **metadata: Any) -> None:  # type: ignore[override]
        """Write this run's card to ``README.md``, which ``push_to_hub`` uploads.

        Args:
            model_name: by default the output directory's name.
            metadata: of ``huggingface_hub.ModelCardData``: license, language, tags, datasets.
        """
        if self.is_world_process_zero():
            output_dir = Path(str(self.args.output_dir))
            model_card(collect(output_dir), model_name=model_name, **metadata).save(output_dir / "README.md")

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with STATUS.phase("saving a checkpoint"):
            super()._save_checkpoint(*args, **kwargs)

    def _prepare_input(self, data: Any) -> Any:
        # Trainer's own rounds every number to the weights' dtype under DeepSpeed, and rewards with them.
        return data.to(self.args.device) if isinstance(data, Tensor) else super()._prepare_input(data)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        readable_as_umask_says(Path(output_dir or str(self.args.output_dir)))

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        wait_for_all()  # the file written next marks the checkpoint as complete


# pyright: standard
