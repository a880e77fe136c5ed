"""What the processes of one run, each with a device of its own, tell each other; without others, nothing is sent.

Everything here is collective: all processes come to it, in the same order.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch.distributed as dist

from pad_student.errors import EndedByAnother

Result = TypeVar("Result")


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return _rank() == 0


def from_all(value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Return when every process is here."""
    if count() > 1:
        dist.barrier()


def together(work: Callable[[], Result]) -> Result:
    """Do what one process alone may fail at, and have it fail in all: those that go on would wait for ever.

    Args:
        work: not itself collective.

    Raises:
        Exception: the own one, in the first process that failed.
        EndedByAnother: in all others.
    """
    result, failed = None, None
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 -- raised again below, where all processes know of it
        failed = error
    failures = from_all(failed is not None)
    if failed is not None and not any(failures[: _rank()]):
        raise failed
    if any(failures):
        raise EndedByAnother(f"process {failures.index(True)} of the run ended it, and says why")
    return result  # type: ignore[return-value]


def means_of_all(values: Mapping[str, list[float]]) -> dict[str, float]:
    """The mean of each name's values over all processes; names need not be the same everywhere."""
    joined: defaultdict[str, list[float]] = defaultdict(list)
    for each in from_all(dict(values)):
        for name, own in each.items():
            joined[name] += own
    return {name: sum(own) / len(own) for name, own in joined.items()}


def _rank() -> int:
    return dist.get_rank() if count() > 1 else 0


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process is gone: NCCL has a type for it, gloo has not."""
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))


def leave() -> None:
    """End what connects the processes; nothing more can be sent."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
