"""Rounds of on-policy learning: responses from the student as it is now, scored by the teacher, kept on disk.

A round's files are what makes a continued run exact: what was sampled and scored before is read back, not repeated.
They are ordinary response sets, so any other stage can read them.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pad_student.data.prompts import PromptLine
from pad_student.errors import ConfigError, NothingSampled
from pad_student.on_policy.background_scoring import Scoring
from pad_student.preference.config import PADConfig
from pad_student.sampling.generate import sample_responses
from pad_student.sampling.vllm_sampler import VllmSampler
from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_student.storage.run_directory import bind_to_settings
from pad_student.teacher.client import Teacher
from pad_wire import SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder

Steps = Mapping[int, Sequence[Sequence[PromptLine]]]  # each step's micro-batches


@dataclass(frozen=True, slots=True)
class Round:
    """The sets of some steps in a row, sampled, and scored or being scored.

    ``sampled_at`` is the step whose weights they were sampled by.
    """

    sampled_at: int
    set_ids: Mapping[int, Sequence[str]]
    micro_batches: Mapping[int, int]
    scoring: Scoring

    @property
    def end(self) -> int:
        """The first step behind it."""
        return max(self.micro_batches) + 1

    def scored(self, step: int) -> Iterator[list[ScoredSet]]:
        """Yield the sets of each micro-batch of ``step`` as soon as they are scored, in order.

        There are as many as were planned, also where prompts dropped out: the Trainer counts them.

        Raises:
            TeacherError: where the teacher cannot be reached, refuses or changed; what it scored is kept.
            NothingSampled: where there are more micro-batches than sets.
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
                if scored := self.scoring.score_of(left.popleft()):
                    part.append(scored)
            found += part
            if not found:
                raise NothingSampled(f"no prompt of step {step} has a scored response; raise max_response_tokens")
            # The teacher may have left out all that was left: the mean over all so far leaves the step's as it is.
            yield part or found


class Rounds:
    """Makes the scored sets of some steps at a time.

    Args:
        teacher: scores the responses.
        encoder: the student's.
        config: how many responses, how sampled, how scored.
        folder: where each round's ``sets.jsonl`` and ``scored.jsonl`` go.
        rank: of this process; each has files of its own.

    Raises:
        TeacherChanged: where another teacher scored the rounds on disk.
        ConfigError: where several processes would share one vLLM server.
        SamplerError: where no sampling server can have that URL.
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
        self._suffix = f"-{rank}" if rank else ""
        if (so_far := fingerprint_so_far(folder)) and isinstance(teacher, Teacher):
            teacher.pin(so_far)
        self._server = None
        if config.sampler_url:
            if config.world_size > 1:
                raise ConfigError("a vLLM server samples for one process only: leave sampler_url out, or start one")
            self._server = VllmSampler(config.sampler_url, folder.parent / "sampler", config.sampler_tolerance)

    def claim(self, **decisive: Any) -> None:
        """Make sure that rounds on disk are of this run.

        Raises:
            OtherRun: naming the setting that differs.
        """
        names = ("seed", "n", "parts", "decompose", "temperature", "max_response_tokens", "sampling_batch_size")
        names += ("staleness", "form", "orders")
        now = {name: getattr(self._config, name) for name in names}
        now |= {"asks_selection": self._config.alpha > 0, **decisive}
        bind_to_settings(self._folder / "settings.json", now)

    def begin(self, model: Any, steps: Steps, now: int, before: Round | None = None) -> Round:
        """Sample for each step's prompts; a prompt that got no text is left out. The teacher scores meanwhile.

        All sets are on disk when this returns; their scores need not be. A round on disk may have fewer steps, where
        the run was to end behind them.

        Args:
            model: the student, with the weights of step ``now``.
            steps: each step's micro-batches of prompts.
            now: the step that comes next.
            before: the round whose sets the teacher gets first.
        """
        folder = self._folder_of(min(steps))
        folder.mkdir(parents=True, exist_ok=True)
        sets, out = (folder / f"{name}{self._suffix}.jsonl" for name in ("sets", "scored"))
        about = folder / f"round{self._suffix}.json"
        scoring = Scoring(self._stream, out, before.scoring if before else None)
        try:
            if not sets.exists():
                about.write_text(json.dumps({"sampled_at": now, "steps": list(steps)}))
                self._sample(model, steps, sets, scoring)
                given = {each.id for each in jsonl.read(sets, SampledSet)}
            else:
                found = list(jsonl.read(sets, SampledSet))
                scoring.feed(found)
                given = {each.id for each in found}
            told = json.loads(about.read_text())
            scoring.complete()
        except BaseException:
            scoring.stop()
            raise
        held = {step: micro_batches for step, micro_batches in steps.items() if step in told["steps"]}
        set_ids = {step: [each for each, _ in _named(step, lines) if each in given] for step, lines in held.items()}
        return Round(told["sampled_at"], set_ids, {step: len(lines) for step, lines in held.items()}, scoring)

    def _folder_of(self, step: int) -> Path:
        """Where the round of ``step`` is, which a continued run may enter in its middle, or where it will be."""
        earlier = (path for path in self._folder.glob("*") if path.name.isdigit() and int(path.name) <= step)
        for path in sorted(earlier, reverse=True)[:1]:
            sets, about = path / f"sets{self._suffix}.jsonl", path / f"round{self._suffix}.json"
            if sets.exists() and step in json.loads(about.read_text())["steps"]:
                return path
        return self._folder / f"{step:06d}"

    def _sample(self, model: Any, steps: Steps, path: Path, scoring: Scoring) -> None:
        # All or nothing: half a round could not be continued, since the student may have changed since.
        unfinished = path.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        items = [named for step, micro_batches in steps.items() for named in _named(step, micro_batches)]
        sample = self._server.with_weights_of(model) if self._server else sample_responses
        with Appender(unfinished) as sets:
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
                scoring.feed(sampled)
        unfinished.replace(path)

    def _stream(self, sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        return self._teacher.score_stream(
            sets,
            alpha=self._config.alpha,
            form=self._config.form,  # type: ignore[arg-type]
            orders=self._config.orders,  # type: ignore[arg-type]
            skip_too_long=True,  # one such set must not end the run
            sets_per_request=self._config.sampling_batch_size,  # or a batch would wait for the next one
        )


def fingerprint_so_far(folder: Path) -> str | None:
    """Of the teacher that scored what these rounds hold; None before there is any."""
    for path in sorted(folder.glob("*/scored*")):
        if scored := jsonl.first(path, ScoredSet):
            return scored.teacher.fingerprint
    return None


def _named(step: int, micro_batches: Sequence[Sequence[PromptLine]]) -> list[tuple[str, PromptLine]]:
    """A prompt may come up in several steps of a round, each time with responses of its own."""
    return [(f"{line.id}@{step}", line) for lines in micro_batches for line in lines]


# pyright: standard
