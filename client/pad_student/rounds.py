"""Rounds of on-policy learning: responses from the student as it is now, scored by the teacher, kept on disk.

A round's files are what makes a continued run exact: what was sampled and scored before is read back, not repeated.
They are ordinary response sets, so any other stage can read them.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pad_student import jsonl
from pad_student.claims import claim
from pad_student.config import PADConfig
from pad_student.costs import Costs
from pad_student.errors import StudentError
from pad_student.jsonl import Appender
from pad_student.prompts import PromptLine
from pad_student.sampling import sample_responses
from pad_student.teacher import Teacher
from pad_student.teacher_errors import TeacherRefused
from pad_wire import SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder

Steps = Mapping[int, Sequence[PromptLine]]


logger = logging.getLogger(__name__)


class NothingSampled(StudentError):
    """No prompt of a whole step got a response that the teacher could score."""


class Rounds:
    """Makes the scored sets of some steps at a time.

    Args:
        teacher: scores the responses.
        encoder: the student's.
        config: how many responses, how sampled, how scored.
        folder: where each round's ``sets.jsonl`` and ``scored.jsonl`` go.
        rank: of this process; each has files of its own.
        costs: where the seconds of sampling and of waiting for the teacher are counted.
    """

    def __init__(
        self,
        teacher: Teacher,
        encoder: ChatEncoder,
        config: PADConfig,
        folder: Path,
        rank: int = 0,
        costs: Costs | None = None,
    ) -> None:
        self._teacher = teacher
        self._encoder = encoder
        self._config = config
        self._folder = folder
        self._suffix = f"-{rank}" if rank else ""
        self._costs = costs or Costs()

    def claim(self, **decisive: Any) -> None:
        """Make sure that rounds on disk are of this run.

        Raises:
            OtherRun: naming the setting that differs.
        """
        names = ("seed", "n", "parts", "decompose", "temperature", "max_response_tokens", "sampling_batch_size")
        names += ("staleness", "form", "orders")
        now = {name: getattr(self._config, name) for name in names}
        now |= {"asks_selection": self._config.alpha > 0, **decisive}
        claim(self._folder / "settings.json", now)

    def scored_sets(self, model: Any, steps: Steps) -> dict[int, list[ScoredSet]]:
        """Sample and score for each step's prompts; a prompt that got no text is left out.

        Raises:
            TeacherError: where the teacher cannot be reached, refuses or changed; what it scored is kept.
            NothingSampled: where a step would be empty.
        """
        sets, out = (self._folder_of(min(steps)) / f"{name}{self._suffix}.jsonl" for name in ("sets", "scored"))
        # A prompt may come up in several steps of a round, each time with responses of its own.
        prompts = {_set_id(step, line): line for step, lines in steps.items() for line in lines}
        if not sets.exists():
            with self._costs.phase("sampled"):
                self._sample(model, prompts, sets)
        with self._costs.phase("waited_for_teacher"):
            self._score(sets, out)
        scored = {each.id: each for each in jsonl.read(out, ScoredSet)}
        found = {
            step: [scored[i] for line in lines if (i := _set_id(step, line)) in scored]
            for step, lines in steps.items()
        }
        for step, sets_of_step in found.items():
            if not sets_of_step:
                raise NothingSampled(f"no prompt of step {step} has a scored response; raise max_response_tokens")
        return found

    def _folder_of(self, step: int) -> Path:
        """Where the round of ``step`` is, which a continued run may enter in its middle, or where it will be."""
        earlier = (path for path in self._folder.glob("*") if path.name.isdigit() and int(path.name) <= step)
        for path in sorted(earlier, reverse=True)[:1]:
            sets = path / f"sets{self._suffix}.jsonl"
            if sets.exists() and any(each.id.endswith(f"@{step}") for each in jsonl.read(sets, SampledSet)):
                return path
        return self._folder / f"{step:06d}"

    def _sample(self, model: Any, prompts: Mapping[str, PromptLine], path: Path) -> None:
        # All or nothing: half a round could not be continued, since the student may have changed since.
        unfinished = path.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        items = list(prompts.items())
        with Appender(unfinished) as sets:
            for start in range(0, len(items), self._config.sampling_batch_size):
                batch = items[start : start + self._config.sampling_batch_size]
                responses = sample_responses(
                    model,
                    self._encoder,
                    [line.prompt for _, line in batch],
                    n=self._config.part_size,
                    temperature=self._config.temperature,
                    max_new_tokens=self._config.max_response_tokens,
                    seed=self._config.seed,
                    keys=[identifier for identifier, _ in batch],
                )
                for (identifier, line), given in zip(batch, responses, strict=True):
                    if given:
                        sets.append(SampledSet(id=identifier, prompt=line.prompt, responses=given))
        unfinished.replace(path)

    def _score(self, sets: Path, out: Path) -> None:
        with Appender(out) as scored:
            missing = [each for each in jsonl.read(sets, SampledSet) if each.id not in scored.held]
            try:
                for each in self._stream(missing):
                    scored.append(each)
            except TeacherRefused as refused:
                if refused.code != "too_long":
                    raise
                self._score_one_by_one([each for each in missing if each.id not in scored.held], scored)

    def _score_one_by_one(self, sets: Sequence[SampledSet], scored: Appender) -> None:
        """Leave out the sets that exceed the teacher's context: one of them must not end the run."""
        for each in sets:
            try:
                scored.append(*self._stream([each]))
            except TeacherRefused as refused:
                if refused.code != "too_long":
                    raise
                logger.warning("left out: %s", refused)

    def _stream(self, sets: Sequence[SampledSet]) -> Iterator[ScoredSet]:
        return self._teacher.score_stream(
            sets,
            alpha=self._config.alpha,
            form=self._config.form,  # type: ignore[arg-type]
            orders=self._config.orders,  # type: ignore[arg-type]
        )


def _set_id(step: int, line: PromptLine) -> str:
    return f"{line.id}@{step}"
