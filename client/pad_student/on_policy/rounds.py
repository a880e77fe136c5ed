"""Rounds of on-policy learning: responses sampled from the current student, scored by the teacher, kept on disk.

A round's files make a continued run exact: sampled and scored sets are read back, not made again. They are ordinary
response sets, so any other stage can read them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pad_student.data.prompts import PromptLine
from pad_student.errors import ConfigError, NothingSampled
from pad_student.on_policy.background_scoring import BackgroundScorer
from pad_student.on_policy.round_folder import RoundFolder, RoundRecord, fingerprint_so_far
from pad_student.preference.config import PADConfig
from pad_student.sampling.generate import sample_responses
from pad_student.sampling.vllm_sampler import VllmSampler
from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_to_settings
from pad_student.teacher.client import Teacher
from pad_student.teacher.options import ScoreOptions
from pad_wire import SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder

Steps = Mapping[int, Sequence[Sequence[PromptLine]]]  # each step's micro-batches


@dataclass(frozen=True, slots=True)
class Round:
    """The sets of some consecutive steps, sampled, and scored or being scored.

    Attributes:
        sampled_at: the step whose weights sampled them.
        set_ids: of each step's sets, in order.
        micro_batches: each step's number of micro-batches.
        scorer: has or gets the scores.
    """

    sampled_at: int
    set_ids: Mapping[int, Sequence[str]]
    micro_batches: Mapping[int, int]
    scorer: BackgroundScorer

    @property
    def end(self) -> int:
        """The first step after it."""
        return max(self.micro_batches) + 1

    def scored(self, step: int) -> Iterator[list[ScoredSet]]:
        """Yield the sets of each micro-batch of ``step`` as soon as they are scored, in order.

        The number of micro-batches is the planned one even if prompts dropped out, because the Trainer counts them.

        Raises:
            TeacherError: if the teacher cannot be reached, refuses or changed; the scores so far are kept.
            NothingSampled: if there are more micro-batches than sets.
        """
        left, count = deque(self.set_ids[step]), self.micro_batches[step]
        if len(left) < count:
            raise NothingSampled(
                f"only {len(left)} prompts of step {step} have responses, for {count} micro-batches;"
                " raise max_response_tokens"
            )
        found: list[ScoredSet] = []
        for parts in range(count, 0, -1):
            size, part = -(-len(left) // parts), []
            while left and len(part) < size:
                if scored := self.scorer.score_of(left.popleft()):
                    part.append(scored)
            found += part
            if not found:
                raise NothingSampled(f"no prompt of step {step} has a scored response; raise max_response_tokens")
            # If the teacher left out all remaining sets, repeat those so far: that keeps the step's mean as it is.
            yield part or found


class Rounds:
    """Makes the scored sets of some steps at a time.

    Invariants:
        - A round is sampled from one student: after a kill it is sampled anew, or not at all.
        - A round on disk is read, never changed.

    Args:
        teacher: scores the responses.
        encoder: the student's.
        config: how responses are sampled and scored, and how many.
        folder: of all rounds; see ``RoundFolder`` for each.
        rank: of this process; each has files of its own.

    Raises:
        TeacherChanged: if another teacher scored the rounds on disk.
        ConfigError: if several processes would share one vLLM server.
        SamplerError: if the sampling server's URL is not an HTTP address.
    """

    def __init__(
        self,
        teacher: Teacher,
        encoder: ChatEncoder,
        config: PADConfig,
        folder: Path,
        rank: int = 0,
    ) -> None:
        self._teacher = teacher
        self._encoder = encoder
        self._config = config
        self._folder = folder
        self._rank = rank
        if (so_far := fingerprint_so_far(folder)) and isinstance(teacher, Teacher):
            teacher.pin(so_far)
        self._server = None
        if config.sampler_url:
            if config.world_size > 1:
                raise ConfigError("a vLLM server samples for one process only: leave sampler_url out, or start one")
            self._server = VllmSampler(config.sampler_url, folder.parent / "sampler", config.sampler_tolerance)

    def bind_to_settings(self, **decisive: Any) -> None:
        """Make sure that the rounds on disk belong to this run.

        Args:
            decisive: further settings that decide a round's contents, as JSON can hold them.

        Raises:
            OtherRun: naming the setting that differs.
        """
        names = ("seed", "n", "parts", "decompose", "temperature", "max_response_tokens", "sampling_batch_size")
        names += ("staleness", "form", "orders")
        now = {name: getattr(self._config, name) for name in names}
        now |= {"asks_selection": self._config.alpha > 0, **decisive}
        bind_to_settings(self._folder / "settings.json", now)

    def begin(self, model: Any, steps: Steps, now: int, before: Round | None = None) -> Round:
        """Sample for each step's prompts, while the teacher scores; a prompt that got no text is left out.

        All sets are on disk when this returns; their scores need not be. A round that is on disk already may have
        fewer steps, if the run was to end after them.

        Args:
            model: the student, with the weights of step ``now``.
            steps: each step's micro-batches of prompts.
            now: the next step.
            before: the round whose sets the teacher gets first.

        Raises:
            SamplingError: if the student, or the sampling server, cannot sample.
            JsonLinesError: if the round cannot be written or read.
        """
        folder = RoundFolder.of_step(self._folder, min(steps), self._rank)
        begun_before = folder.is_sampled
        if not begun_before:
            folder.begin(RoundRecord(sampled_at=now, steps=list(steps)))
        scorer = BackgroundScorer(self._stream, folder.scored, before.scorer if before else None)
        try:
            if not begun_before:
                self._sample(model, steps, folder, scorer)
            sets = list(jsonl.read(folder.sets, SampledSet))
            if begun_before:
                scorer.feed(sets)
            scorer.complete()
        except BaseException:
            scorer.stop()
            raise
        record, sampled = folder.record, {each.id for each in sets}
        kept = {step: micro_batches for step, micro_batches in steps.items() if step in record.steps}
        set_ids = {
            step: [each for each, _ in _with_set_ids(step, lines) if each in sampled] for step, lines in kept.items()
        }
        return Round(record.sampled_at, set_ids, {step: len(lines) for step, lines in kept.items()}, scorer)

    def _sample(self, model: Any, steps: Steps, folder: RoundFolder, scorer: BackgroundScorer) -> None:
        # All or nothing: half a round could not be continued, since the student may have changed since.
        folder.unfinished_sets.unlink(missing_ok=True)
        items = [named for step, micro_batches in steps.items() for named in _with_set_ids(step, micro_batches)]
        sample = self._server.with_weights_of(model) if self._server else sample_responses
        with Appender(folder.unfinished_sets) as sets:
            for start in range(0, len(items), self._config.sampling_batch_size):
                batch = items[start : start + self._config.sampling_batch_size]
                responses = sample(
                    model,
                    self._encoder,
                    [line.prompt for _, line in batch],
                    n=self._config.part_size,
                    temperature=self._config.temperature,
                    max_new_tokens=self._config.max_response_tokens,
                    seed=self._config.seed,
                    keys=[identifier for identifier, _ in batch],
                )
                sampled = [
                    SampledSet(id=identifier, prompt=line.prompt, responses=given)
                    for (identifier, line), given in zip(batch, responses, strict=True)
                    if given
                ]
                sets.append(*sampled)
                scorer.feed(sampled)
        folder.unfinished_sets.replace(folder.sets)

    def _stream(self, sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        return self._teacher.score_stream(
            sets,
            options=ScoreOptions.of(self._config),
            skip_too_long=True,  # one such set must not end the run
            sets_per_request=self._config.sampling_batch_size,  # else a batch would wait for the next one
        )


def _with_set_ids(step: int, micro_batches: Sequence[Sequence[PromptLine]]) -> list[tuple[str, PromptLine]]:
    """Prompts with the ids of their sets: a prompt in several steps of a round has other responses in each."""
    return [(f"{line.id}@{step}", line) for lines in micro_batches for line in lines]


# pyright: standard
