"""A student made ready for training: adapter, attention, kernels, and the checks that need no data."""

import logging
from dataclasses import dataclass
from typing import Any

from transformers import set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_enabled

from pad_student.errors import ConfigError
from pad_student.model.checks import check_against_full_logits
from pad_student.model.distributed.sharding import why_not_saved
from pad_student.model.liger import apply_liger_kernels
from pad_student.model.logprobs import use_defined_attention, why_not_shared
from pad_student.preference.config import PADConfig
from pad_torch.declared_ends import declared_ends
from pad_wire.chat import ChatEncoder, TemplateOptions

logger = logging.getLogger(__name__)


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
        UnsupportedModel: for a model that transforms its logits in an unknown way.
    """
    if peft_config is not None:
        from peft import get_peft_model

        set_seed(args.seed)  # an adapter's initial weights are drawn at random
        model = get_peft_model(model, peft_config)
    use_defined_attention(model)
    sharded = is_deepspeed_zero3_enabled() or is_fsdp_enabled()
    if not sharded:
        if args.use_liger_kernel:
            apply_liger_kernels(model, args.liger_kernel_config, args.device)
        check_against_full_logits(model)
    return PreparedStudent(model, _can_share(model, args, sharded))


def encoder_for(model: Any, tokenizer: Any, args: PADConfig) -> ChatEncoder:
    """The encoder of a student with a tokenizer, with the run's arguments of the chat template.

    Raises:
        TemplateError: the tokenizer has no usable chat template.
    """
    ends = declared_ends(getattr(model, "generation_config", None), model.config)
    return ChatEncoder.of(tokenizer, TemplateOptions.of(args.date, args.template_args), ends)


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


def _can_share(model: Any, args: PADConfig, sharded: bool) -> bool:
    """Whether a prompt can be computed once for all of its responses; the log reports the reason if not."""
    compiled = "torch.compile would compile it anew for every length" if args.torch_compile else None
    problem = compiled or ("its weights are sharded, so it cannot be tried" if sharded else why_not_shared(model))
    if problem and args.process_index == 0:
        logger.warning("the student computes each response with a prompt of its own: %s", problem)
    return not problem


# pyright: standard
