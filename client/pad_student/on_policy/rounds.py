"""Rounds of on-policy learning: responses sampled from the current student, scored by the teacher, kept on disk.

A round's files make a continued run exact: sampled and scored sets are read back, not made again. They are ordinary
response sets, so any other stage can read them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pad_student.data.prompts import PromptLine
from pad_student.errors import ConfigError
from pad_student.on_policy.background_scoring import BackgroundScorer
from pad_student.on_policy.round_folder import RoundFolder, RoundRecord, fingerprints_so_far
from pad_student.preference.config import PADConfig
from pad_student.preference.copies import number_of_texts
from pad_student.sampling.generate import sample_responses
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

Steps = Mapping[int, Sequence[Sequence[PromptLine]]]  # each step's micro-batches
Sample = Callable[[Sequence[tuple[str, PromptLine]], float], Sequence[Sequence[Response]]]  # by key, at a temperature


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
    """

    sampled_at: int
    set_ids: Mapping[int, Sequence[str]]
    micro_batches: Mapping[int, int]
    scorer: BackgroundScorer
    responses: Mapping[str, Sequence[Response]] = field(default_factory=dict[str, Sequence[Response]])
    skipped: frozenset[str] = frozenset()

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
        names += ("staleness", "form", "orders", "tolerance", "distinct", "one_text", "resample_temperature")
        now = {name: getattr(self._config, name) for name in names}
        now |= {"asks_selection": self._config.alpha > 0, **decisive}
        if self._config.method != "pad":
            now |= {name: getattr(self._config, name) for name in ("method", "top_k")}
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
            TeacherError: if the teacher does not say what it can tell, or cannot tell what the run needs.
            SamplingError: if the student, or the sampling server, cannot sample.
            JsonLinesError: if the round cannot be written or read.
        """
        folder = RoundFolder.of_step(self._folder, min(steps), self._rank, self._config.steps_a_round)
        begun_before = folder.is_sampled
        if not begun_before:
            folder.begin(RoundRecord(sampled_at=now, steps=list(steps)))
        scorer = BackgroundScorer(self._stream, folder.scored, before.scorer if before else None)
        try:
            if not begun_before:
                self._sample(model, steps, folder, scorer)
            sets = list(jsonl.read(folder.sets, SampledSet))
            if begun_before:
                scorer.feed(_with_a_preference(self._config, sets))
            scorer.complete()
        except BaseException:
            scorer.stop()
            raise
        record, sampled = folder.record, {each.id for each in sets}
        kept = {step: micro_batches for step, micro_batches in steps.items() if step in record.steps}
        set_ids = {
            step: [each for each, _ in _with_set_ids(step, lines) if each in sampled] for step, lines in kept.items()
        }
        counts = {step: len(lines) for step, lines in kept.items()}
        responses = {s.id: s.responses for s in sets if self._config.method == "pad"}
        skipped = sampled - {each.id for each in _with_a_preference(self._config, sets)}
        return Round(record.sampled_at, set_ids, counts, scorer, responses, frozenset(skipped))

    def _sample(self, model: Any, steps: Steps, folder: RoundFolder, scorer: BackgroundScorer) -> None:
        if isinstance(self._teacher, Teacher) and not self._is_checked:
            checked_model(self._teacher, ScoreOptions.of(self._config))
            self._is_checked = True
        # All or nothing: half a round could not be continued, since the student may have changed since.
        folder.unfinished_sets.unlink(missing_ok=True)
        items = [named for step, micro_batches in steps.items() for named in _with_set_ids(step, micro_batches)]
        sample = _pairs if self._config.method == "dckd" else self._sampler(model)
        sampling = STATUS.phase("sampling", len(items), stops_at_once=True)
        with Appender(folder.unfinished_sets) as sets, sampling as phase:
            for start in range(0, len(items), self._config.sampling_batch_size):
                batch = items[start : start + self._config.sampling_batch_size]
                sampled = _sampled(self._config, sample, batch)
                sets.append(*sampled)
                scorer.feed(_with_a_preference(self._config, sampled))
                phase.update(len(batch))
        folder.unfinished_sets.replace(folder.sets)

    def _sampler(self, model: Any) -> Sample:
        with STATUS.phase("loading the weights into the sampling server", stops_at_once=True):
            sample = self._server.with_weights_of(model) if self._server else sample_responses
        return lambda keyed, temperature: sample(
            model,
            self._encoder,
            [line.prompt for _, line in keyed],
            n=self._config.part_size,
            temperature=temperature,
            max_new_tokens=self._config.max_response_tokens,
            seed=self._config.seed,
            keys=[key for key, _ in keyed],
        )

    def _stream(self, sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        return self._teacher.score_stream(
            sets,
            options=ScoreOptions.of(self._config),
            refusals=self.refusals,  # one such set must not end the run
            sets_per_request=self._config.sampling_batch_size,  # else a batch would wait for the next one
        )


def _sampled(config: PADConfig, sample: Sample, batch: Sequence[tuple[str, PromptLine]]) -> list[SampledSet]:
    """The sets of one batch; with ``resample_temperature`` those of one text are sampled once more."""
    found = list(sample(batch, config.temperature))
    again = [place for place, responses in enumerate(found) if responses and number_of_texts(responses) == 1]
    if config.resample_temperature and again:
        # Other keys: the same random numbers would give much the same texts.
        keyed = [(f"{batch[place][0]}+", batch[place][1]) for place in again]
        for place, responses in zip(again, sample(keyed, config.resample_temperature), strict=True):
            found[place] = responses or found[place]
    answered = config.method == "adpa"
    return [
        SampledSet(id=name, prompt=line.prompt, responses=list(responses), answer=line.chosen if answered else None)
        for (name, line), responses in zip(batch, found, strict=True)
        if responses
    ]


def _with_a_preference(config: PADConfig, sets: Sequence[SampledSet]) -> list[SampledSet]:
    """The sets to be scored; only pad compares the texts of a set."""
    if config.one_text == "keep" or config.method != "pad":
        return list(sets)
    return [each for each in sets if number_of_texts(each.responses) > 1]


def _pairs(batch: Sequence[tuple[str, PromptLine]], _: float) -> list[list[Response]]:
    """The data's own responses: the chosen and the rejected one."""
    return [[Response(text=line.chosen or ""), Response(text=line.rejected or "")] for _, line in batch]


def _with_set_ids(step: int, micro_batches: Sequence[Sequence[PromptLine]]) -> list[tuple[str, PromptLine]]:
    """Prompts with the ids of their sets: a prompt in several steps of a round has other responses in each."""
    return [(f"{line.id}@{step}", line) for lines in micro_batches for line in lines]


# pyright: standard
