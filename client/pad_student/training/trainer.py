"""``PADTrainer``: a transformers.Trainer whose loss compares the student's rankings with the teacher's.

Data flows one way: prompts → responses → scored sets → preference distributions → loss → update. Given scored sets
it needs no teacher; given prompts and a teacher it samples a round of steps at a time, and trains as scores come in.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from pad_student.evaluation.report.card import model_card
from pad_student.evaluation.report.collect import collect
from pad_student.model.distributed.processes import wait_for_all
from pad_student.model.distributed.sharding import gathered_weights
from pad_student.model.logprobs import shared_prompts
from pad_student.on_policy.costs import Costs, Meter
from pad_student.on_policy.source import OnPolicySource, open_schedule
from pad_student.preference.config import PADConfig
from pad_student.teacher.client import Teacher
from pad_student.training.batches import TrainingRow, as_rows, batch_of, usable_rows
from pad_student.training.callbacks import ProgressBar, StopOnSignal
from pad_student.training.loss import batch_loss, student_log_likelihoods
from pad_student.training.prepare import check_launch, encoder_for, prepare_student
from pad_student.training.prompt_order import DecomposedOrder, prompts_per_step
from pad_student.training.run_logs import CostLog, MetricsLog, StartLog
from pad_student.training.step_metrics import StepMetrics


class PADTrainer(Trainer):
    """Trains a student to prefer what a teacher prefers (PAD, arXiv 2502.14272).

    Args:
        model: a transformers causal language model.
        args: see ``PADConfig``.
        train_dataset: prompts to be sampled for, or scored sets, as ``batches.as_rows`` takes them.
        processing_class: the student's tokenizer, with its chat template.
        teacher: needed if the rows are prompts.
        peft_config: trains an adapter instead of all weights.
        kwargs: as for ``transformers.Trainer``.

    Attributes:
        shares_prompts: whether a prompt is computed once for all of its responses.

    Raises:
        DatasetError: for a dataset that cannot be trained on.
        ConfigError: for a launch or a sharding that PAD cannot train in; see ``prepare.check_launch``.
        UnsupportedModel: for a model that transforms its logits in an unknown way.
        TemplateError: for a tokenizer without a usable chat template.
    """

    args: PADConfig  # type: ignore[assignment]

    def __init__(
        self,
        model: Any,
        args: PADConfig,
        train_dataset: Any,
        processing_class: Any,
        teacher: Teacher | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ) -> None:
        prepared = prepare_student(model, args, peft_config)
        self.shares_prompts = prepared.shares_prompts
        self._encoder = encoder_for(model, processing_class, args)
        rows = usable_rows(
            as_rows(train_dataset), prepared.model, self._encoder, args, scores_more=teacher is not None
        )
        super().__init__(
            model=prepared.model,
            args=args,
            train_dataset=rows,  # type: ignore[arg-type]
            processing_class=processing_class,
            data_collator=_unchanged,  # type: ignore[arg-type]
            **kwargs,
        )
        check_launch(self.accelerator.state, args, samples=teacher is not None)
        self.loss_is_scaled_for_ga = False  # the loss is a mean over a micro-batch's prompts
        for default in (ProgressCallback, PrinterCallback):
            self.remove_callback(default)
        self._stop = StopOnSignal()
        costs = Costs(teacher if isinstance(teacher, Meter) else None)
        self._bars = [] if args.disable_tqdm else [ProgressBar(costs)]
        for callback in (StartLog(rows), MetricsLog(), CostLog(costs), *self._bars, self._stop):
            self.add_callback(callback)
        self._metrics = StepMetrics(args.loss)
        normalization: Any = args.normalization
        self._batch = partial(batch_of, encoder=self._encoder, alpha=args.alpha, normalization=normalization)
        self._source = self._open_source(teacher, rows, costs) if teacher else None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As ``transformers.Trainer.train``; Ctrl-C ends the run after the current step, with a checkpoint."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._stop.restore()
            for bar in self._bars:
                bar.close()
            if self._source:
                self._source.stop()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one micro-batch, as ``batch_loss`` makes it; its metrics are logged with the step's."""
        with self.accelerator.autocast():
            log_likelihood_P_N, tokens_P_N = student_log_likelihoods(model, inputs, self.args, self.shares_prompts)
        made = batch_loss(inputs, log_likelihood_P_N, tokens_P_N, self.args)
        self._metrics.note(made.metrics)
        return (made.loss, {"scores_student": made.scores_student}) if return_outputs else made.loss

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """As ``transformers.Trainer.training_step``, with one attention for the forward and the backward pass."""
        plain: Any = self.accelerator.unwrap_model(model)
        with shared_prompts(plain) if self.shares_prompts else nullcontext():
            return super().training_step(model, *args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[TrainingRow]], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """One optimiser step's micro-batches; one that needs the teacher's scores waits for them when it is taken."""
        next_rows = partial(super().get_batch_samples, epoch_iterator, num_batches, device)
        if not self._source:
            return [self._batch(sets) for sets in next_rows()[0]], None
        model = self.accelerator.unwrap_model(self.model_wrapped)
        found = self._source.batches(self.state.global_step, self.state.max_steps, lambda: next_rows()[0], model)
        if found is None:
            return [], None
        batches, staleness = found
        self._metrics.note({"staleness": staleness})
        return batches, None  # type: ignore[return-value]

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Gather sharded weights for the block; a process may then run the student alone. Entering is collective."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        reshard: Any = plugin and plugin.reshard_after_forward
        with gathered_weights(self.model_wrapped, reshard), self.accelerator.autocast():  # type: ignore[arg-type]
            yield

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the signal's metrics, averaged over all processes, and warn about what looks wrong."""
        means = self._metrics.take()
        super().log({**logs, **means}, start_time)
        if "loss" in logs and self.is_world_process_zero():
            self._metrics.warn(means, logs.get("grad_norm"))

    def create_model_card(self, *, model_name: str | None = None, **metadata: Any) -> None:  # type: ignore[override]
        """Write this run's card to ``README.md``, which ``push_to_hub`` uploads.

        Args:
            model_name: by default the output directory's name.
            metadata: of ``huggingface_hub.ModelCardData``: license, language, tags, datasets.
        """
        if self.is_world_process_zero():
            output_dir = Path(str(self.args.output_dir))
            model_card(collect(output_dir), model_name=model_name, **metadata).save(output_dir / "README.md")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if not self._source or self.args.parts == 1:
            return super()._get_train_sampler(train_dataset)
        return DecomposedOrder(len(self.train_dataset), prompts_per_step(self.args), self.args.parts, self.args.seed)  # type: ignore[arg-type]

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        wait_for_all()  # the file written next marks the checkpoint as complete

    def _open_source(self, teacher: Teacher, prompts: list[Any], costs: Costs) -> OnPolicySource:
        name = str(getattr(self.model.config, "_name_or_path", ""))  # type: ignore[union-attr]
        schedule = open_schedule(teacher, self._encoder, self.args, costs, prompts, name, prompts_per_step(self.args))
        folder, save = Path(str(self.args.output_dir)), lambda: self._save_checkpoint(self.model, trial=None)  # type: ignore[arg-type]
        return OnPolicySource(schedule, folder, self._batch, self.gathered_weights, save)


def _unchanged(rows: list[TrainingRow]) -> list[TrainingRow]:
    """The Trainer's collator: rows become tensors later, after they were scored."""
    return rows


# pyright: standard
