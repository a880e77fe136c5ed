"""Messages between the processes of one run, each of which has a device of its own; a single process sends none.

All functions but ``count``, ``rank``, ``is_first``, ``is_loss`` and ``leave_group`` are collective: every process
must call them, in the same order.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch.distributed as dist

from pad_student.errors import EndedByAnother

Result = TypeVar("Result")


def count() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes files and log lines for all."""
    return rank() == 0


def gather_from_all(value: Any) -> list[Any]:
    """Every process's value, in the order of ranks."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Return when every process has called it."""
    if count() > 1:
        dist.barrier()


def fail_together(work: Callable[[], Result]) -> Result:
    """Do some work, and fail in every process if it fails in one: the others would wait for that one for ever.

    Args:
        work: not itself collective.

    Raises:
        Exception: the work's own, in the failed process with the lowest rank.
        EndedByAnother: in all others.
    """
    result, failed = None, None
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 -- raised again below, when all processes know of it
        failed = error
    failures = gather_from_all(failed is not None)
    if failed is not None and not any(failures[: rank()]):
        raise failed
    if any(failures):
        raise EndedByAnother(f"process {failures.index(True)} ended the run; its own log says why")
    return result  # type: ignore[return-value]


def means_of_all(values: Mapping[str, list[tuple[float, float]]]) -> dict[str, float]:
    """The weighted mean of each name's values over all processes; processes may have different names.

    Args:
        values: pairs of a value and its weight, which is above 0.
    """
    joined: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in gather_from_all(dict(values)):
        for name, own in each.items():
            joined[name] += own
    return {name: sum(v * w for v, w in own) / sum(w for _, w in own) for name, own in joined.items()}


def rank() -> int:
    """This process's number; 0 writes files and log lines for all."""
    return dist.get_rank() if count() > 1 else 0


def is_loss(error: BaseException) -> bool:
    """Whether an error means that another process is gone. NCCL has a type for that, gloo only a text."""
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))


def leave_group() -> None:
    """Close the connections between the processes; no collective call is possible afterwards."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


# pyright: standard
