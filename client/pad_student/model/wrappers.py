"""The transformers model inside what PEFT, Accelerate, DDP, FSDP, DeepSpeed or torch.compile wrap around it."""

from typing import Any

from torch import nn

from pad_student.errors import UnsupportedModel


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DDP, FSDP, DeepSpeed and torch.compile, still with its PEFT wrapper.

    Raises:
        UnsupportedModel: for ``nn.DataParallel``.
    """
    if isinstance(model, nn.DataParallel):
        raise UnsupportedModel(
            "nn.DataParallel is not supported: start one process a device, as accelerate launch does"
        )
    inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def causal_lm_of(model: nn.Module) -> Any:
    """The transformers model inside all wrappers; its layers hold PEFT's adapters.

    Raises:
        UnsupportedModel: if there is none, or if its adapter adds positions of its own.
    """
    model = unwrapped(model)
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise UnsupportedModel(
            "prompt-learning adapters add positions of their own; use LoRA or another weight adapter"
        )
    get_base_model = getattr(model, "get_base_model", None)
    causal_lm = get_base_model() if callable(get_base_model) else model
    if not hasattr(causal_lm, "get_decoder") or not hasattr(causal_lm, "get_output_embeddings"):
        raise UnsupportedModel(f"{type(causal_lm).__name__} is not a transformers causal language model")
    return causal_lm


def decoder_with_head(model: nn.Module) -> Any:
    """The transformers model inside all wrappers, which is a decoder body with an output head.

    Raises:
        UnsupportedModel: if it is not.
    """
    causal_lm = causal_lm_of(model)
    if causal_lm.get_decoder() is causal_lm or causal_lm.config.is_encoder_decoder:
        raise UnsupportedModel(f"{type(causal_lm).__name__} is not a decoder body with an output head")
    if causal_lm.get_output_embeddings() is None:
        raise UnsupportedModel(f"{type(causal_lm).__name__} names no output head")
    return causal_lm


def text_config_of(model: nn.Module) -> Any:
    """The config of its language model."""
    return causal_lm_of(model).config.get_text_config()
