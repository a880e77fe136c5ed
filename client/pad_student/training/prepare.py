"""A student made ready for training: adapter, attention, kernels, and the checks that need no data."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, get_scheduler, set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_enabled

from pad_student.errors import ConfigError
from pad_student.model.checks import check_against_full_logits
from pad_student.model.distributed.sharding import why_not_saved
from pad_student.model.liger import apply_liger_kernels
from pad_student.model.logprobs import use_defined_attention, why_not_shared
from pad_student.preference.config import ADAPTER_RATE, PADConfig
from pad_student.preference.trainer_fields import in_one_line
from pad_student.sampling.generate import check_template
from pad_student.teacher.checks.capabilities import Described, checked_model
from pad_student.teacher.options import ScoreOptions
from pad_torch.declared_ends import declared_ends
from pad_torch.findings import FindingName
from pad_wire.chat import ChatEncoder, TemplateOptions
from pad_wire.tokenizer_digest import tokenizer_digest

logger = logging.getLogger(__name__)

WITHOUT_USE = ("data_collator", "compute_loss_func", "compute_metrics", "model_init")


@dataclass(frozen=True, slots=True)
class PreparedStudent:
    """A model ready for the Trainer.

    Attributes:
        model: the student, with its adapter if it has one.
        shares_prompts: whether a prompt is computed once for all of its responses.
    """

    model: Any
    shares_prompts: bool


def prepare_student(model: Any, args: PADConfig, peft_config: Any = None) -> PreparedStudent:
    """Add the adapter, choose attention and kernels, and compare the log-likelihoods with those of full logits.

    Sharded weights are incomplete in every process, so such a model is neither compared nor probed.

    Raises:
        ConfigError: no weight can be trained.
        UnsupportedModel: for a model that transforms its logits in an unknown way.
    """
    if peft_config is not None:
        from peft import get_peft_model

        set_seed(args.seed)  # an adapter's initial weights are drawn at random
        model = get_peft_model(model, peft_config)
    if hasattr(model, "peft_config") and args.chooses_rate:
        args.learning_rate = ADAPTER_RATE
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("every weight of the student is frozen: set requires_grad on those to train, or give lora")
    use_defined_attention(model)
    sharded = is_deepspeed_zero3_enabled() or is_fsdp_enabled()
    if not sharded:
        if args.use_liger_kernel:
            apply_liger_kernels(model, args.liger_kernel_config, args.device)
        check_against_full_logits(model)
    args.student_vocabulary = model.get_input_embeddings().num_embeddings
    return PreparedStudent(model, _can_share(model, args, sharded))


def check_arguments(model: Any, args: PADConfig, others: Mapping[str, Any]) -> None:
    """Make optimiser and schedule once, before the rows are read; and refuse what a PADTrainer cannot use.

    Args:
        model: the student.
        args: the run's.
        others: keyword arguments for transformers.Trainer.

    Raises:
        ConfigError: naming the setting, with the library's own words.
    """
    if given := [name for name in WITHOUT_USE if others.get(name)]:
        raise ConfigError(f"{given[0]}: PADTrainer has its own; leave it out")
    if others.get("optimizers", (None, None))[0] is None and others.get("optimizer_cls_and_kwargs") is None:
        with in_one_line("optim, optim_args, lr_scheduler_type or lr_scheduler_kwargs"):
            kind = Trainer.get_optimizer_cls_and_kwargs(args, model)[0]
            if not is_deepspeed_zero3_enabled() and kind is torch.optim.AdamW:
                some = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
                how: Any = {"num_warmup_steps": 0, "num_training_steps": 1}
                how["scheduler_specific_kwargs"] = args.lr_scheduler_kwargs
                get_scheduler(args.lr_scheduler_type, some, **how)


def encoder_for(model: Any, tokenizer: Any, args: PADConfig, allow: Collection[FindingName] = ()) -> ChatEncoder:
    """The encoder of a student with a tokenizer, with the run's arguments of the chat template.

    Raises:
        TemplateError: the tokenizer has no usable chat template.
        SamplingError: the template loses something of hard conversations, and ``allow`` does not name the finding.
    """
    ends = declared_ends(getattr(model, "generation_config", None), model.config)
    encoder = ChatEncoder.of(tokenizer, TemplateOptions.of(args.date, args.template_args), ends)
    check_template("the student", encoder, allow)
    return encoder


def check_launch(state: Any, args: PADConfig, samples: bool) -> None:
    """Refuse a way of launching several processes that PAD cannot train or sample in.

    Args:
        state: of the Accelerator.
        args: the run's.
        samples: whether the student samples during training.

    Raises:
        ConfigError: naming the setting to change.
    """
    if args.n_gpu > 1:
        raise ConfigError("several GPUs need a process each: start with accelerate launch")
    if problem := why_not_saved(state):
        raise ConfigError(f"a sharded student is saved whole: {problem}")
    fsdp = getattr(state, "fsdp_plugin", None)
    if args.max_forward_tokens and (fsdp is not None or is_deepspeed_zero3_enabled()):
        # Each pass gathers the weights from all processes, which may need different numbers of passes.
        instead = "gradient_checkpointing, or a lower per_device_train_batch_size"
        raise ConfigError(f"max_forward_tokens needs a student whose weights are not sharded; set {instead}")
    if samples:
        args.check_question()
        if fsdp and fsdp.fsdp_version != 2:
            raise ConfigError("FSDP1 cannot sample from shards: set fsdp_version to 2, or run the stages one by one")


def check_teacher(teacher: object, tokenizer: Any, args: PADConfig) -> None:
    """Refuse a teacher whose distributions a student with this tokenizer cannot learn from; pad takes any.

    Raises:
        TeacherRefused: if it only chooses.
        ConfigError: if it has another tokenizer, or lacks the reference that adpa needs.
        TeacherError: if it does not say.
    """
    if args.method == "pad" or not isinstance(teacher, Described):
        return
    card, ours = checked_model(teacher, ScoreOptions.of(args)), tokenizer_digest(tokenizer)
    if card.tokenizer is None:
        raise ConfigError(f"method {args.method} needs a teacher that serves /v1/token_logprobs; this one is older")
    if card.tokenizer != ours:
        raise ConfigError(
            f"method {args.method} needs one tokenizer: the teacher's vocabulary, merges or special tokens"
            f" ({card.tokenizer[:8]}) are not the student's ({ours[:8]})"
        )
    if args.method == "adpa" and card.reference is None:
        raise ConfigError(
            "method adpa needs the model that the teacher was aligned from: start pad-teacher serve with --reference"
            " MODEL, or serve that model too and give its URL as reference"
        )


def _can_share(model: Any, args: PADConfig, sharded: bool) -> bool:
    """Whether a prompt can be computed once for all of its responses; the log reports the reason if not."""
    compiled = "torch.compile would compile it anew for every length" if args.torch_compile else None
    problem = compiled or ("its weights are sharded, so it cannot be tried" if sharded else why_not_shared(model))
    if problem and args.process_index == 0:
        logger.warning("the student computes each response with a prompt of its own: %s", problem)
    return not problem


# pyright: standard
