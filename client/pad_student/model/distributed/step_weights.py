"""How much each micro-batch counts in its step: every prompt the same, however micro-batches and processes cut it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pad_student.errors import NothingSampled
from pad_student.model.distributed.processes import count, gather_from_all, rank


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The prompts that a step is planned with, over all processes.

    Args:
        total: prompts of all processes, each counted once.
        repeated: places of this process's prompts that another place holds too. Accelerate fills the last step of an
            epoch with prompts from its beginning, so that every process has as many micro-batches.
    """

    total: int
    repeated: frozenset[int]

    @classmethod
    def of(cls, names: Sequence[str | int]) -> "StepPlan":
        """The plan for a step in which this process has the prompts ``names``; collective."""
        of_all: list[Sequence[str | int]] = gather_from_all(list(names))
        seen = {name for earlier in of_all[: rank()] for name in earlier}
        repeated = set[int]()
        for place, name in enumerate(of_all[rank()]):
            if name in seen:
                repeated.add(place)
            seen.add(name)
        return cls(len({name for names in of_all for name in names}), frozenset(repeated))

    def weight(self, prompts: int) -> float:
        """The factor of a micro-batch's mean loss, so that the step's gradient is that of the mean over its prompts.

        Gradients are added up over micro-batches and averaged over processes.
        """
        return prompts * count() / self.total if self.total else 0.0

    def rescaled(self, found: int, left_out: int = 0) -> float:
        """The factor of the step's whole gradient if some planned prompts have no scores; collective.

        Args:
            found: this process's prompts with scores.
            left_out: its prompts that were not sampled on purpose.

        Raises:
            NothingSampled: in every process, if no process found any, and none was left out.
        """
        of_all, on_purpose = map(sum, zip(*gather_from_all((found, left_out)), strict=True))
        if not of_all and on_purpose:
            return 1.0  # of a gradient of nothing
        if not of_all:
            raise NothingSampled("no prompt of a step has a scored response; raise max_response_tokens")
        return self.total / of_all


class NumberedRows:
    """A dataset's rows with their places, by which processes tell whether they have the same one."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        return place, self._rows[place]


def weighed(batches: Sequence[Sequence[tuple[int, Any]]]) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """The rows of a step's micro-batches, each once over all processes, with what ``PADTrainer`` reads of a batch.

    Args:
        batches: numbered rows of this process.
    """
    plan = StepPlan.of([number for batch in batches for number, _ in batch])
    place = 0
    for batch in batches:
        rows = [row for at, (_, row) in enumerate(batch, place) if at not in plan.repeated]
        place += len(batch)
        yield rows, {"weight": plan.weight(len(rows))}
