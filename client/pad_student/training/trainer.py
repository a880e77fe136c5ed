"""``PADTrainer``: a transformers.Trainer whose loss compares the student's rankings with the teacher's.

Data flows one way: prompts → responses → scored sets → preference distributions → loss → update. Given scored sets
it needs no teacher; given prompts and a teacher it samples a round of steps at a time, and trains as scores come in.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_enabled
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from pad_student.data.prompts import PromptLine, prompt_id
from pad_student.errors import EndedByAnother
from pad_student.evaluation.report.card import model_card
from pad_student.evaluation.report.collect import collect
from pad_student.model.distributed.processes import from_all, means_of_all, together, wait_for_all
from pad_student.model.distributed.sharding import whole, why_not_saved
from pad_student.model.liger import take_liger_kernels
from pad_student.model.logprobs import (
    check_against_full_logits,
    response_log_likelihoods,
    shared_prompts,
    use_defined_attention,
    why_not_shared,
)
from pad_student.on_policy.costs import Costs, Meter
from pad_student.on_policy.rounds import Rounds
from pad_student.on_policy.schedule import Batches, Pipeline, StepSets
from pad_student.preference.config import ConfigError, PADConfig
from pad_student.preference.diagnostics import Watch, preference_metrics, response_metrics
from pad_student.preference.losses import LOSSES, anchor_nll
from pad_student.preference.rewards import likelihood_reward
from pad_student.sampling.generate import fits
from pad_student.sampling.vllm_server import SamplerError
from pad_student.teacher.client import Teacher
from pad_student.teacher.errors import TeacherError
from pad_student.training.batches import DatasetError, TrainingRow, as_rows, batch_of, split_sets
from pad_student.training.callbacks import OneBar, Record, Spent, Started, StopWhenAsked
from pad_student.training.prompt_order import RepeatedBatches
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder

logger = logging.getLogger(__name__)


class PADTrainer(Trainer):
    """Trains a student to prefer what a teacher prefers (PAD, arXiv 2502.14272).

    Args:
        model: a transformers causal language model.
        args: see ``PADConfig``.
        train_dataset: prompts to be sampled for, or scored sets, as ``preferences.as_rows`` takes them.
        processing_class: the student's tokenizer, with its chat template.
        teacher: needed where the rows are prompts.
        peft_config: trains an adapter instead of all weights.
        kwargs: as for ``transformers.Trainer``.

    Raises:
        DatasetError: for a dataset that cannot be trained on.
        ConfigError: where sampling is asked of a model that is sharded.
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
        if peft_config is not None:
            from peft import get_peft_model

            set_seed(args.seed)  # an adapter's initial weights are drawn
            model = get_peft_model(model, peft_config)
        use_defined_attention(model)
        sharded = is_deepspeed_zero3_enabled() or is_fsdp_enabled()  # weights that are not all here cannot be tried
        if not sharded:
            if args.use_liger_kernel:
                take_liger_kernels(model, args.liger_kernel_config, args.device)
            check_against_full_logits(model)
        self._shares = _can_share(model, args, sharded)
        self._encoder = ChatEncoder.of(processing_class)
        rows = self._usable(as_rows(train_dataset), model, args, teacher)
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows,  # type: ignore[arg-type]
            processing_class=processing_class,
            data_collator=_as_they_are,  # type: ignore[arg-type]
            **kwargs,
        )
        if args.n_gpu > 1:
            raise ConfigError("several GPUs need a process each: start with accelerate launch")
        if problem := why_not_saved(self.accelerator.state):
            raise ConfigError(f"a sharded student is saved whole: {problem}")
        if args.max_forward_tokens and (self.is_fsdp_enabled or is_deepspeed_zero3_enabled()):
            # Each pass gathers the weights from all processes, which may need different numbers of passes.
            instead = "gradient_checkpointing, or a lower per_device_train_batch_size"
            raise ConfigError(f"max_forward_tokens needs a student whose weights are not sharded; set {instead}")
        self.loss_is_scaled_for_ga = False  # the loss is a mean over a micro-batch's prompts
        for shown in (ProgressCallback, PrinterCallback):
            self.remove_callback(shown)
        self._stop = StopWhenAsked()
        self._costs = Costs(teacher if isinstance(teacher, Meter) else None)
        self._bars = [] if args.disable_tqdm else [OneBar(self._costs)]
        for callback in (Started(rows), Record(), Spent(self._costs), *self._bars, self._stop):
            self.add_callback(callback)
        self._loss = LOSSES[args.loss]
        self._watch = Watch(args.loss)
        self._metrics: defaultdict[str, list[float]] = defaultdict(list)
        self._pipeline = Pipeline(self._rounds_of(teacher), args, self._costs) if teacher else None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As ``transformers.Trainer.train``; Ctrl-C ends the run after the current step, with a checkpoint."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._stop.restore()
            for bar in self._bars:
                bar.close()
            if self._pipeline:
                self._pipeline.stop()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The preference loss, averaged over the micro-batch's prompts, plus the anchor's share if it has one."""
        rewards_teacher_P_N = inputs["rewards_teacher"]
        shape = rewards_teacher_P_N.shape
        with self.accelerator.autocast():
            student = response_log_likelihoods(
                model,
                inputs["input_ids"],
                inputs["attention_mask"],
                inputs["response_mask"],
                shared=self._shares,
                max_tokens=self.args.max_forward_tokens,
            )
        log_likelihood_P_N, tokens_P_N = student.log_likelihood.view(shape), student.tokens.view(shape)
        rewards_student_P_N = likelihood_reward(
            log_likelihood_P_N,
            tokens_P_N,
            self.args.normalization,  # type: ignore[arg-type]
            inputs["text_bytes"],
        )
        scores_teacher_P_N = self.args.beta_teacher * rewards_teacher_P_N
        scores_student_P_N = self.args.beta_student * rewards_student_P_N
        mean_log_likelihood_P_N = log_likelihood_P_N / tokens_P_N
        loss_P = self._loss(scores_teacher_P_N, scores_student_P_N)
        self._note("loss/preference", loss_P.mean().item())
        for name, value in preference_metrics(
            scores_teacher_P_N, scores_student_P_N, mean_log_likelihood_P_N, inputs.get("label_mass")
        ).items():
            self._note(name, value)
        for name, value in response_metrics(
            rewards_teacher_P_N, rewards_student_P_N, tokens_P_N, inputs["text_bytes"]
        ).items():
            self._note(name, value)
        if self.args.anchor:
            anchor_P = anchor_nll(scores_teacher_P_N, mean_log_likelihood_P_N)
            self._note("loss/anchor", anchor_P.mean().item())
            loss_P = loss_P + self.args.anchor * anchor_P
        loss = loss_P.mean()
        return (loss, {"scores_student": scores_student_P_N}) if return_outputs else loss

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """As ``transformers.Trainer.training_step``, forward and backward pass within the same attention."""
        plain: Any = self.accelerator.unwrap_model(model)
        with shared_prompts(plain) if self._shares else nullcontext():
            return super().training_step(model, *args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[TrainingRow]], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """One optimiser step's micro-batches; those that the teacher scores are waited for when they are taken."""

        def planned() -> list[Any]:
            return super(PADTrainer, self).get_batch_samples(epoch_iterator, num_batches, device)[0]

        if not self._pipeline:
            return [self._batch(sets) for sets in planned()], None
        self._random_state = _random_state()
        model = self.accelerator.unwrap_model(self.model_wrapped)
        step, last, pipeline = self.state.global_step, self.state.max_steps, self._pipeline
        try:
            with self.whole():
                sets = together(lambda: pipeline.sets_of(step, last, planned, model))
        except SamplerError:  # of one process: there are no others
            self._save_for_a_rerun()
            raise
        if sets is None:
            return [], None
        self._note("staleness", sets.staleness)
        return Batches(sets, self._waited_for), None  # type: ignore[return-value]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let each process run the student as often as it likes, also one in shards; to begin is collective."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        reshard: Any = plugin and plugin.reshard_after_forward
        with whole(self.model_wrapped, reshard), self.accelerator.autocast():  # type: ignore[arg-type]
            yield

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the signal's metrics, and say in plain words what looks wrong."""
        means = means_of_all(self._metrics)
        self._metrics.clear()
        super().log({**logs, **means}, start_time)
        if "loss" in logs and self.is_world_process_zero():
            for warning in self._watch.update(means, means.get("loss/preference"), logs.get("grad_norm")):
                logger.warning(warning)

    def create_model_card(self, *, model_name: str | None = None, **metadata: Any) -> None:  # type: ignore[override]
        """The card of this run, in ``README.md``; ``push_to_hub`` uploads it.

        Args:
            model_name: by default the output directory's.
            metadata: of ``huggingface_hub.ModelCardData``: license, language, tags, datasets.
        """
        if self.is_world_process_zero():
            output_dir = Path(str(self.args.output_dir))
            model_card(collect(output_dir), model_name=model_name, **metadata).save(output_dir / "README.md")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if not self._pipeline or self.args.parts == 1:
            return super()._get_train_sampler(train_dataset)
        return RepeatedBatches(len(self.train_dataset), self._prompts_per_step(), self.args.parts, self.args.seed)  # type: ignore[arg-type]

    def _waited_for(self, sets: StepSets) -> Iterator[dict[str, Tensor]]:
        taken = iter(sets)
        for _ in range(len(sets)):
            try:
                batch = together(lambda: self._batch(next(taken)))
            except Exception as error:
                if all(from_all(isinstance(error, TeacherError | EndedByAnother))):
                    self._save_for_a_rerun()
                raise
            yield batch

    def _batch(self, sets: Any) -> dict[str, Tensor]:
        normalization: Any = self.args.normalization
        return batch_of(sets, self._encoder, alpha=self.args.alpha, normalization=normalization)

    def _save_for_a_rerun(self) -> None:
        """Keep the steps done so far: the teacher, or the sampling server, may be away for long."""
        step = self.state.global_step
        saved = (Path(str(self.args.output_dir)) / f"checkpoint-{step}").exists()
        if step and not any(from_all(saved)):
            _restore(self._random_state)  # a part of the step may have been done, which will be done again
            self._save_checkpoint(self.model, trial=None)  # type: ignore[arg-type]
            wait_for_all()  # a launcher ends all processes when the first one ends

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        wait_for_all()  # what comes next makes the checkpoint count as whole

    def _note(self, name: str, value: float) -> None:
        if isfinite(value):  # agreement is undefined where every pair is tied
            self._metrics[name].append(value)

    def _usable(
        self, rows: list[TrainingRow], model: Any, args: PADConfig, teacher: Teacher | None
    ) -> list[TrainingRow]:
        """The rows that fit the student's context; the others are counted and left out."""
        prompts = [row for row in rows if isinstance(row, PromptLine)]
        sets = [row for row in rows if isinstance(row, ScoredSet)]
        if prompts and sets:
            raise DatasetError("the dataset mixes prompts with scored sets; train on one kind at a time")
        if prompts and teacher is None:
            raise DatasetError(
                "the dataset has prompts without scores: give the trainer a teacher, or score them first"
            )
        usable: list[TrainingRow] = [
            each for each in prompts if fits(model, self._encoder, each.prompt, args.max_response_tokens)
        ]
        usable += [each for each in split_sets(sets, args.n, args.parts) if _can_train_on(model, self._encoder, each)]
        left_out = len(prompts) + len(sets) * args.parts - len(usable)
        if left_out and args.process_index == 0:
            logger.warning("%d rows exceed the student's or the teacher's context and are left out", left_out)
        if not usable:
            raise DatasetError("the dataset has no row that fits the student's context")
        return usable

    def _rounds_of(self, teacher: Teacher) -> Rounds:
        self.args.check_question()
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        if plugin and plugin.fsdp_version != 2:
            raise ConfigError("FSDP1 cannot sample from shards: set fsdp_version to 2, or run the stages one by one")
        folder = Path(str(self.args.output_dir)) / "rounds"
        rounds = Rounds(teacher, self._encoder, self.args, folder, self.args.process_index)
        rounds.claim(
            model=str(getattr(self.model.config, "_name_or_path", "")),  # type: ignore[union-attr]
            prompts=prompt_id([each.id for each in self.train_dataset]),  # type: ignore[union-attr]
            prompts_per_step=self._prompts_per_step(),
            processes=self.args.world_size,
        )
        return rounds

    def _prompts_per_step(self) -> int:
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size


def _can_share(model: Any, args: PADConfig, sharded: bool) -> bool:
    """Whether a prompt is computed once for all its responses; if not, the log says why."""
    compiled = "torch.compile would compile it anew for every length" if args.torch_compile else None
    problem = compiled or ("its weights are sharded, so it cannot be tried" if sharded else why_not_shared(model))
    if problem and args.process_index == 0:
        logger.warning("the student computes each response with a prompt of its own: %s", problem)
    return not problem


def _as_they_are(rows: list[TrainingRow]) -> list[TrainingRow]:
    """Rows become tensors later, once they have scores."""
    return rows


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])


def _can_train_on(model: Any, encoder: ChatEncoder, scored: ScoredSet) -> bool:
    """Whether it fits the student, and the teacher's numbers are of the whole text."""
    if any(response.truncated for response in scored.responses):
        return False
    responses = encoder.response_ids([r.text for r in scored.responses], [r.finished for r in scored.responses])
    return fits(model, encoder, scored.prompt, max(map(len, responses)))
