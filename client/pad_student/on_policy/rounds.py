"""Rounds of on-policy learning: responses sampled from the current student, scored by the teacher, kept on disk.

A round's files make a continued run exact: sampled and scored sets are read back, not made again. They are ordinary
response sets, so any other stage can read them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pad_student.errors import ConfigError
from pad_student.on_policy.background_scoring import BackgroundScorer
from pad_student.on_policy.prompt_memory import memory_of
from pad_student.on_policy.round_folder import RoundFolder, RoundRecord, fingerprints_so_far
from pad_student.on_policy.round_sampling import (
    SECOND,
    Steps,
    pairs_of_data,
    sample_all,
    sampler,
    unsettled,
    with_a_preference,
    with_set_ids,
)
from pad_student.preference.config import PADConfig
from pad_student.sampling.vllm_sampler import VllmSampler
from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_to_settings
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.checks.capabilities import checked_model
from pad_student.teacher.client import Teacher
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.requests.refusals import Refusals
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder


@dataclass(frozen=True, slots=True)
class Round:
    """The sets of some consecutive steps, sampled, and scored or being scored.

    Attributes:
        sampled_at: the step whose weights sampled them.
        set_ids: of each step's sets, in order.
        micro_batches: each step's number of micro-batches.
        scorer: has or gets the scores.
        responses: of each set whose texts are compared; dckd and adpa compare none.
        skipped: ids of the sets that are not scored, because they hold one text.
        left_out: each step's number of prompts that are not sampled, because they teach no more.
    """

    sampled_at: int
    set_ids: Mapping[int, Sequence[str]]
    micro_batches: Mapping[int, int]
    scorer: BackgroundScorer
    responses: Mapping[str, Sequence[Response]] = field(default_factory=dict[str, Sequence[Response]])
    skipped: frozenset[str] = frozenset()
    left_out: Mapping[int, int] = field(default_factory=dict[int, int])

    @property
    def end(self) -> int:
        """The first step after it."""
        return max(self.micro_batches) + 1

    def scored(self, step: int, repeated: frozenset[int] = frozenset()) -> Iterator[list[ScoredSet]]:
        """Yield the sets of each micro-batch of ``step`` as soon as they are scored, in order.

        The number of micro-batches is the planned one even if prompts dropped out, because the Trainer counts them:
        the last ones may be empty.

        Args:
            step: one of the round's.
            repeated: places of sets that another process trains on.

        Raises:
            TeacherError: if the teacher cannot be reached, refuses or changed; the scores so far are kept.
        """
        names = (name for place, name in enumerate(self.set_ids[step]) if place not in repeated)
        left = deque(name for name in names if name not in self.skipped)
        count, total = self.micro_batches[step], len(left)
        for parts in range(count, 0, -1):
            size, part = -(-len(left) // parts), []
            with STATUS.phase("scoring", total, total - len(left), stops_at_once=True) as phase:
                while left and len(part) < size:
                    if scored := self.scorer.score_of(left.popleft()):
                        part.append(scored)
                    phase.update()
            yield part


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
        self._is_checked = False  # whether the teacher can tell what the run needs
        so_far, reference = fingerprints_so_far(folder)
        if so_far and isinstance(teacher, Teacher):
            teacher.pin(so_far, reference)
        self.refusals = Refusals(config.on_refused, config.most_refused)  # type: ignore[arg-type]
        self.memory = memory_of(folder, rank, config.skip_settled, config.seed)
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
        bind_to_settings(self._folder / "settings.json", _decisive(self._config) | decisive)

    def begin(
        self,
        model: Any,
        steps: Steps,
        now: int,
        before: Round | None = None,
        waiting: AbstractContextManager[None] | None = None,
    ) -> Round:
        """Sample for each step's prompts, while the teacher scores; a prompt that got no text is left out.

        All sets are on disk when this returns; their scores need not be. A round that is on disk already may have
        fewer steps, if the run was to end after them.

        Args:
            model: the student, with the weights of step ``now``.
            steps: each step's micro-batches of prompts.
            now: the next step.
            before: the round whose sets the teacher gets first.
            waiting: counts the time in which sampling waits for scores.

        Raises:
            TeacherError: if the teacher does not say what it can tell, or cannot tell what the run needs.
            SamplingError: if the student, or the sampling server, cannot sample.
            JsonLinesError: if the round cannot be written or read.
        """
        folder = RoundFolder.of_step(self._folder, min(steps), self._rank, self._config.steps_a_round)
        begun_before = folder.is_sampled
        if not begun_before:
            left_out = self.memory.left_out_of_all(steps, now) if self.memory else []
            folder.begin(RoundRecord(sampled_at=now, steps=list(steps), left_out=left_out))
        scorer = BackgroundScorer(self._stream, folder.scored, before.scorer if before else None)
        try:
            if not begun_before:
                self._sample(model, steps, folder, scorer, waiting or nullcontext())
            sets = list(jsonl.read(folder.sets, SampledSet))
            if begun_before:
                scorer.feed(with_a_preference(self._config, sets))
            scorer.complete()
        except BaseException:
            scorer.stop()
            raise
        return _round(self._config, folder.record, steps, sets, scorer)

    def _sample(
        self,
        model: Any,
        steps: Steps,
        folder: RoundFolder,
        scorer: BackgroundScorer,
        waiting: AbstractContextManager[None],
    ) -> None:
        if isinstance(self._teacher, Teacher) and not self._is_checked:
            checked_model(self._teacher, ScoreOptions.of(self._config))
            self._is_checked = True
        # All or nothing: half a round could not be continued, since the student may have changed since.
        folder.unfinished_sets.unlink(missing_ok=True)
        left_out = set(folder.record.left_out)
        items = [
            each for step, lines in steps.items() for each in with_set_ids(step, lines) if each[0] not in left_out
        ]
        sample = (
            pairs_of_data
            if self._config.method == "dckd"
            else sampler(self._config, self._encoder, model, self._server)
        )
        asked = set[str]()
        with Appender(folder.unfinished_sets) as sets:

            def keep(sampled: list[SampledSet]) -> None:
                sets.append(*sampled)
                scored = with_a_preference(self._config, sampled)
                asked.update(each.id for each in scored)
                scorer.feed(scored)

            sample_all(self._config, sample, items, keep)
            if self._config.second_set_above is not None:
                scorer.finish_part()
                with waiting:
                    more = unsettled(self._config, items, asked, scorer)
                sample_all(self._config, sample, more, keep)
        folder.unfinished_sets.replace(folder.sets)

    def _stream(self, sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        return self._teacher.score_stream(
            sets,
            options=ScoreOptions.of(self._config),
            refusals=self.refusals,  # one such set must not end the run
            sets_per_request=self._config.sampling_batch_size,  # else a batch would wait for the next one
        )


def _round(
    config: PADConfig, record: RoundRecord, steps: Steps, sets: Sequence[SampledSet], scorer: BackgroundScorer
) -> Round:
    """A round whose sets are all on disk."""
    sampled = {each.id for each in sets}
    kept = {step: micro_batches for step, micro_batches in steps.items() if step in record.steps}
    names = {step: [name for name, _ in with_set_ids(step, lines)] for step, lines in kept.items()}
    set_ids = {
        step: [each for name in own for each in (name, name + SECOND) if each in sampled]
        for step, own in names.items()
    }
    counts = {step: len(lines) for step, lines in kept.items()}
    responses = {s.id: s.responses for s in sets if config.method == "pad"}
    skipped = frozenset(sampled - {each.id for each in with_a_preference(config, sets)})
    left_out = {step: len(set(own).intersection(record.left_out)) for step, own in names.items()}
    return Round(record.sampled_at, set_ids, counts, scorer, responses, skipped, left_out)


def _decisive(config: PADConfig) -> dict[str, Any]:
    """The settings that decide what rounds hold."""
    names = ("seed", "n", "parts", "decompose", "temperature", "max_response_tokens", "sampling_batch_size")
    names += ("staleness", "form", "orders", "tolerance", "distinct", "one_text", "resample_temperature")
    now = {name: getattr(config, name) for name in names}
    now |= {"asks_selection": config.alpha > 0}
    if config.method != "pad":
        now |= {name: getattr(config, name) for name in ("method", "top_k")}
    # Only if they are set: runs that were begun before they existed can be continued.
    now |= {"skip_settled": config.skip_settled} if config.skip_settled else {}
    above = config.second_set_above
    now |= {} if above is None else {"second_set_above": above}
    return now


# pyright: standard
