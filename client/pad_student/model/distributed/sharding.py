"""A student whose weights are sharded by FSDP2 or ZeRO-3, made whole on every process for as long as it samples."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule


@contextmanager
def whole(model: nn.Module, reshard_after_forward: bool = True) -> Iterator[None]:
    """Gather all weights, so that each process may run as many forward passes as it needs.

    Within the block a forward pass sends nothing: the processes sample different numbers of tokens. To begin the
    block is collective; a model without shards is left as it is.

    Args:
        model: as Accelerate prepared it.
        reshard_after_forward: how inner modules are to go on behind the block, as FSDP was told.
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
            # The outermost is needed at once by its backward pass, and FSDP keeps it by default.
            shard.set_reshard_after_forward(reshard_after_forward and shard is not shards[0], recurse=False)
            shard.reshard()


def in_zero_shards(model: nn.Module) -> bool:
    """Whether ZeRO-3 holds a part of each weight only."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def why_not_saved(state: Any) -> str | None:
    """What to set so that the student is saved whole; else each process would save shards, which no one can load.

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
    """ZeRO-3 gathers a module's weights as its forward pass begins and frees them behind it, by hooks."""
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
            for module, (before, behind) in zip(modules, hooks, strict=True):
                module._forward_pre_hooks, module._forward_hooks = before, behind
