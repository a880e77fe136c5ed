"""A student whose weights are sharded by FSDP2, made whole on every process for as long as it samples."""

from collections.abc import Iterator
from contextlib import contextmanager

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
        yield
    finally:
        for shard in shards:
            # The outermost is needed at once by its backward pass, and FSDP keeps it by default.
            shard.set_reshard_after_forward(reshard_after_forward and shard is not shards[0], recurse=False)
            shard.reshard()
