"""One round's files, of one process: which weights sampled it, its sets and their scores."""

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel

from pad_student.storage import jsonl
from pad_wire import ScoredSet


class RoundRecord(BaseModel):
    """The facts about a round that its other files lack.

    Attributes:
        sampled_at: the step whose weights sampled the round.
        steps: the steps that the round is for.
        left_out: ids of the sets that were not sampled, because their prompts teach no more.
    """

    sampled_at: int
    steps: list[int]
    left_out: list[str] = []


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """One round's files on disk, and how far the round has got.

    Invariants:
        - ``sets`` exists only whole: it is written as ``unfinished_sets`` first.
        - If ``sets`` exists, so does the record.

    Args:
        path: of the folder, named after the round's first step.
        rank: of the process; each has files of its own.
    """

    path: Path
    rank: int = 0

    @classmethod
    def of_step(cls, rounds: Path, step: int, rank: int, most_steps: int) -> "RoundFolder":
        """The folder of the round with ``step``, which a continued run may enter in its middle; else a new one.

        No folder is listed, because a long run has many rounds.

        Args:
            rounds: where all rounds are.
            step: one of the round's.
            rank: of the process.
            most_steps: the most steps that a round has.
        """
        for first in range(step, max(-1, step - most_steps), -1):
            found = cls(rounds / f"{first:06d}", rank)
            if found.is_sampled and step in found.record.steps:
                return found
        return cls(rounds / f"{step:06d}", rank)

    @property
    def sets(self) -> Path:
        """All of the round's sets, once they are sampled."""
        return self.path / f"sets{self._suffix}.jsonl"

    @property
    def unfinished_sets(self) -> Path:
        """The sets sampled so far."""
        return self.sets.with_suffix(".part")

    @property
    def scored(self) -> Path:
        """The scores so far."""
        return self.path / f"scored{self._suffix}.jsonl"

    @property
    def is_sampled(self) -> bool:
        """Whether all sets are on disk."""
        return self.sets.exists()

    @property
    def record(self) -> RoundRecord:
        """The record that ``begin`` wrote."""
        return RoundRecord.model_validate_json(self._record.read_bytes())

    def begin(self, record: RoundRecord) -> None:
        """Make the folder, and write the record."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._record.write_text(record.model_dump_json())

    @property
    def _record(self) -> Path:
        return self.path / f"round{self._suffix}.json"

    @property
    def _suffix(self) -> str:
        return f"-{self.rank}" if self.rank else ""


def fingerprint_so_far(rounds: Path) -> str | None:
    """The fingerprint of the teacher that scored the rounds in this folder; None if there are no scores yet."""
    return fingerprints_so_far(rounds)[0]


def fingerprints_so_far(rounds: Path) -> tuple[str | None, str | None]:
    """Those of the teacher and of its reference; None if there are no scores of it yet."""
    for path in sorted(rounds.glob("*/scored*")):
        if scored := jsonl.first(path, ScoredSet):
            return scored.teacher.fingerprint, scored.reference and scored.reference.fingerprint
    return None, None


def prune(rounds: Path, oldest: int) -> None:
    """Remove the rounds that lie whole before the step ``oldest``, from which a run may have to continue."""
    begins = sorted(int(path.name) for path in rounds.glob("*") if path.name.isdigit())
    for first, following in pairwise(begins):
        if following <= oldest:
            shutil.rmtree(rounds / f"{first:06d}", ignore_errors=True)
