"""Rounds of on-policy learning: responses from the student as it is now, scored by the teacher, kept on disk.

A round's files are what makes a continued run exact: what was sampled and scored before is read back, not repeated.
They are ordinary response sets, so any other stage can read them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pad_student import jsonl
from pad_student.config import PADConfig
from pad_student.errors import StudentError
from pad_student.jsonl import Appender
from pad_student.prompts import PromptLine
from pad_student.sampling import sample_responses
from pad_student.teacher import Teacher
from pad_wire import SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder

Steps = Mapping[int, Sequence[PromptLine]]


class NothingSampled(StudentError):
    """No prompt of a whole step got a response."""


class Rounds:
    """Makes the scored sets of some steps at a time.

    Args:
        teacher: scores the responses.
        encoder: the student's.
        config: how many responses, how sampled, how scored.
        folder: where each round's ``sets.jsonl`` and ``scored.jsonl`` go.
        rank: of this process; each has files of its own.
    """

    def __init__(
        self, teacher: Teacher, encoder: ChatEncoder, config: PADConfig, folder: Path, rank: int = 0
    ) -> None:
        self._teacher = teacher
        self._encoder = encoder
        self._config = config
        self._folder = folder
        self._suffix = f"-{rank}" if rank else ""

    def scored_sets(self, model: Any, steps: Steps) -> dict[int, list[ScoredSet]]:
        """Sample and score for each step's prompts; a prompt that got no text is left out.

        Raises:
            TeacherError: where the teacher cannot be reached, refuses or changed; what it scored is kept.
            NothingSampled: where a step would be empty.
        """
        folder = self._folder / f"{min(steps):06d}"
        # A prompt may come up in several steps of a round, each time with responses of its own.
        prompts = {_set_id(step, line): line for step, lines in steps.items() for line in lines}
        self._sample(model, prompts, folder / f"sets{self._suffix}.jsonl")
        self._score(folder / f"sets{self._suffix}.jsonl", folder / f"scored{self._suffix}.jsonl")
        scored = {each.id: each for each in jsonl.read(folder / f"scored{self._suffix}.jsonl", ScoredSet)}
        found = {
            step: [scored[i] for line in lines if (i := _set_id(step, line)) in scored]
            for step, lines in steps.items()
        }
        for step, sets in found.items():
            if not sets:
                raise NothingSampled(f"no prompt of step {step} got a response; raise max_response_tokens")
        return found

    def _sample(self, model: Any, prompts: Mapping[str, PromptLine], path: Path) -> None:
        if path.exists():
            return
        responses = sample_responses(
            model,
            self._encoder,
            [line.prompt for line in prompts.values()],
            n=self._config.part_size,
            temperature=self._config.temperature,
            max_new_tokens=self._config.max_response_tokens,
            seed=self._config.seed,
            keys=list(prompts),
        )
        # All or nothing: responses depend on the batch they are sampled in, so half a round could not be continued.
        unfinished = path.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        with Appender(unfinished) as sets:
            for (identifier, line), given in zip(prompts.items(), responses, strict=True):
                if given:
                    sets.append(SampledSet(id=identifier, prompt=line.prompt, responses=given))
        unfinished.replace(path)

    def _score(self, sets: Path, out: Path) -> None:
        with Appender(out) as scored:
            missing = [each for each in jsonl.read(sets, SampledSet) if each.id not in scored.held]
            stream = self._teacher.score_stream(
                missing,
                alpha=self._config.alpha,
                form=self._config.form,  # type: ignore[arg-type]
                orders=self._config.orders,  # type: ignore[arg-type]
            )
            for each in stream:
                scored.append(each)


def _set_id(step: int, line: PromptLine) -> str:
    return f"{line.id}@{step}"
