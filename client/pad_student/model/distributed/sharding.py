"""A student whose weights FSDP2 or ZeRO-3 shards: all of them on every process while it samples."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule


@contextmanager
def gathered_weights(model: nn.Module, reshard_after_forward: bool = True) -> Iterator[None]:
    """Gather all weights on every process for the length of the block.

    Processes sample different numbers of tokens, so they run different numbers of forward passes: within the block a
    pass sends nothing. Entering the block is collective. A model without shards stays as it is.

    Args:
        model: as Accelerate prepared it.
        reshard_after_forward: the inner modules' setting after the block, as FSDP was given it.
    """
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for shard in shards:
        shard.set_reshard_after_forward(False, recurse=False)
        shard.unshard()
    try:
        with _gathered_by_zero(model):
            yield
    finally:
        for shard in shards:
            # FSDP keeps the outermost by default, as its backward pass comes next.
            shard.set_reshard_after_forward(reshard_after_forward and shard is not shards[0], recurse=False)
            shard.reshard()


def in_zero_shards(model: nn.Module) -> bool:
    """Whether ZeRO-3 holds only a part of each weight here."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def why_not_saved(state: Any) -> str | None:
    """The setting to change if checkpoints would be sharded, which nothing could load; None if they will be whole.

    Args:
        state: of the Accelerator.
    """
    fsdp, zero = getattr(state, "fsdp_plugin", None), getattr(state, "deepspeed_plugin", None)
    if fsdp and "FULL" not in str(fsdp.state_dict_type):
        return "set fsdp_state_dict_type to FULL_STATE_DICT"
    shards = zero.deepspeed_config.get("zero_optimization", {}) if zero else {}
    if shards.get("stage") == 3 and not shards.get("stage3_gather_16bit_weights_on_model_save"):
        named = "stage3_gather_16bit_weights_on_model_save (DeepSpeed's file)"
        return f"set zero3_save_16bit_model (accelerate's file) or {named} to true"
    return None


@contextmanager
def _gathered_by_zero(model: nn.Module) -> Iterator[None]:
    """Gather ZeRO-3's weights once, without the hooks that gather and free them around each module's pass."""
    if not in_zero_shards(model):
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters  # type: ignore[import-not-found]

    modules = list(model.modules())
    hooks = [(module._forward_pre_hooks, module._forward_hooks) for module in modules]
    with GatheredParameters(model.parameters()):
        for module in modules:
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
        try:
            yield
        finally:
            for module, (before, after) in zip(modules, hooks, strict=True):
                module._forward_pre_hooks, module._forward_hooks = before, after


# pyright: standard
