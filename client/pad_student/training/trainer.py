"""``PADTrainer``: a transformers.Trainer whose loss compares the student's rankings with the teacher's.

Data flows one way: prompts → responses → scored sets → preference distributions → loss → update. Given scored sets
it needs no teacher; given prompts and a teacher it samples a round of steps at a time, and trains as scores come in.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from pad_student.evaluation.grading import Grader
from pad_student.model.distributed.step_weights import weighed
from pad_student.model.logprobs import shared_prompts
from pad_student.on_policy.costs import Costs, Meter
from pad_student.on_policy.source import OnPolicySource, open_schedule
from pad_student.preference.config import PADConfig
from pad_student.preference.trainer_fields import in_one_line
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.client import Teacher
from pad_student.training.base_trainer import BaseTrainer
from pad_student.training.batches import TrainingRow, as_rows
from pad_student.training.callbacks import BeginEvaluation, ProgressBar, PruneRounds, StopOnSignal
from pad_student.training.heldout.choose import evaluation_of
from pad_student.training.heldout.tables import AnswerTables
from pad_student.training.methods import method_of
from pad_student.training.prepare import check_arguments, check_launch, check_teacher, encoder_for, prepare_student
from pad_student.training.prompt_order import DecomposedOrder, prompts_per_step
from pad_student.training.run_logs import CostLog, EvaluationLog, MetricsLog, StartLog
from pad_student.training.step_metrics import StepMetrics
from pad_student.training.usable import usable_rows
from pad_torch.findings import FindingName


class PADTrainer(BaseTrainer):
    """Trains a student to prefer what a teacher prefers (PAD, arXiv 2502.14272).

    Args:
        model: a transformers causal language model.
        args: see ``PADConfig``.
        train_dataset: prompts to be sampled for, or scored sets, as ``batches.as_rows`` takes them.
        processing_class: the student's tokenizer, with its chat template.
        teacher: needed if the rows are prompts.
        peft_config: trains an adapter instead of all weights.
        eval_dataset: held-out prompts, or held-out scored sets; evaluated every ``eval_steps``. With
            ``load_best_model_at_end`` the best checkpoint is kept, and ``transformers.EarlyStoppingCallback`` works.
        grader: a rule, ``grader(prompt, response)``, that grades the answers to held-out prompts too.
        allow: findings about the chat template that do no harm; ``kwargs`` are as for ``transformers.Trainer``.

    Attributes:
        shares_prompts: whether a prompt is computed once for all of its responses.
        encoder: writes the student's conversations.

    Raises:
        DatasetError: for a dataset that cannot be trained on.
        ConfigError: for a launch or a sharding that PAD cannot train in; see ``prepare.check_launch``.
        UnsupportedModel: for a model that transforms its logits in an unknown way.
        TemplateError, SamplingError: for a chat template that is missing or wrong; see ``prepare.encoder_for``.
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
        eval_dataset: Any = None,
        grader: Grader | None = None,
        allow: Collection[FindingName] = (),
        **kwargs: Any,
    ) -> None:
        check_arguments(model, args, kwargs)
        check_teacher(teacher, processing_class, args)
        prepared = prepare_student(model, args, peft_config)
        self.shares_prompts = prepared.shares_prompts
        self.encoder = encoder_for(model, processing_class, args, allow)
        given = as_rows(train_dataset, pairs=args.method != "pad")
        rows = usable_rows(given, prepared.model, self.encoder, args, scores_more=teacher is not None)
        self.evaluation = evaluation_of(
            eval_dataset, prepared.model, self.encoder, args, teacher, grader, self.gathered_weights
        )
        with in_one_line():
            super().__init__(
                eval_dataset=eval_dataset,
                model=prepared.model,
                args=args,
                train_dataset=rows,  # type: ignore[arg-type]
                processing_class=processing_class,
                data_collator=_unchanged,  # type: ignore[arg-type]
                **kwargs,
            )
        check_launch(self.accelerator.state, args, samples=teacher is not None)
        self._stop = StopOnSignal()
        costs = Costs(teacher if isinstance(teacher, Meter) else None)
        self._bars = [] if args.disable_tqdm else [ProgressBar(costs)]
        self._logs = [MetricsLog(), CostLog(costs), EvaluationLog()]
        self._add_callbacks(rows, samples=teacher is not None)
        self._metrics = StepMetrics(args.loss, args.method)
        self._method = method_of(args, self.encoder)
        self._source = _source_of(self, teacher, rows, costs, self._method.batch) if teacher else None

    def _add_callbacks(self, rows: Sequence[TrainingRow], samples: bool) -> None:
        for default in (ProgressCallback, PrinterCallback):
            self.remove_callback(default)
        answers = AnswerTables(self.callback_handler.callbacks)
        begin = [BeginEvaluation(self.evaluation), answers] if self.evaluation else []
        prune = [PruneRounds()] if samples and self.args.keep_rounds == "needed" else []
        for callback in (StartLog(rows), *self._logs, *self._bars, self._stop, *begin, *prune):
            self.add_callback(callback)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As ``transformers.Trainer.train``; Ctrl-C ends the run after the current step, with a checkpoint."""
        try:
            with STATUS.phase("preparing", self.args.gradient_accumulation_steps) as self._training:
                return super().train(*args, **kwargs)
        finally:
            self._stop.restore()
            for each in (*self._bars, *self._logs):
                each.close()
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
            student: Any = self._method.student(model, inputs, self.shares_prompts)
        made = self._method.loss(inputs, student)
        weight = inputs.get("weight", 1.0)
        if weight:  # shares of copies are of all that was sampled, and noted with the step
            shares = {} if self._source is None else dict.fromkeys(("share/copies", "share/one_text"), math.nan)
            self._metrics.note(made.metrics | shares, len(made.scores_student), made.weights)
        loss = made.loss * weight
        return (loss, {"scores_student": made.scores_student}) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """As ``transformers.Trainer.training_step``, with one attention for the forward and the backward pass."""
        plain: Any = self.accelerator.unwrap_model(model)
        with shared_prompts(plain) if self.shares_prompts else nullcontext():
            loss = super().training_step(model, inputs, *args, **kwargs)
        for noted in inputs.get("noted", ()):
            self._metrics.note(*noted)
        return loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[tuple[int, TrainingRow]]], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """One optimiser step's micro-batches; one that needs the teacher's scores waits for them when it is taken."""
        self.begin_step()
        next_rows = partial(super().get_batch_samples, epoch_iterator, num_batches, device)
        if not self._source:
            return [self._method.batch(sets) | weight for sets, weight in weighed(next_rows()[0])], None

        def prompts() -> list[list[Any]]:
            return [[row for _, row in batch] for batch in next_rows()[0]]

        model = self.accelerator.unwrap_model(self.model_wrapped)
        found = self._source.batches(self.state.global_step, self.state.max_steps, prompts, model)
        if found is None:
            return [], None
        batches, staleness = found
        self._metrics.note({"staleness": staleness})
        return batches, None  # type: ignore[return-value]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the signal's metrics, averaged over all processes, and warn about what looks wrong."""
        means = self._metrics.take()
        super().log({**logs, **means}, start_time)
        if "loss" in logs and self.is_world_process_zero():
            self._metrics.warn({**logs, **means}, logs.get("grad_norm"))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if not self._source or self.args.parts == 1:
            return super()._get_train_sampler(train_dataset)
        return DecomposedOrder(len(self.train_dataset), prompts_per_step(self.args), self.args.parts, self.args.seed)  # type: ignore[arg-type]


def _source_of(
    trainer: PADTrainer, teacher: Teacher, prompts: Sequence[Any], costs: Costs, batch_of: Any
) -> OnPolicySource:
    """The rounds of a run that samples, in its output directory."""
    args, encoder = trainer.args, trainer.encoder
    name = str(getattr(trainer.model.config, "_name_or_path", ""))  # type: ignore[union-attr]
    schedule = open_schedule(teacher, encoder, args, costs, prompts, name, prompts_per_step(args))
    folder, save = Path(str(args.output_dir)), lambda: trainer._save_checkpoint(trainer.model, trial=None)
    return OnPolicySource(schedule, folder, batch_of, trainer.gathered_weights, save, trainer.is_deepspeed_enabled)


def _unchanged(rows: list[TrainingRow]) -> list[TrainingRow]:
    """The Trainer's collator: rows become tensors later, after they were scored."""
    return rows


# pyright: standard
