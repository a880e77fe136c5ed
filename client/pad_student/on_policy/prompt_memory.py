"""What each prompt taught when it came up last, by which a round leaves out most of those that teach no more."""

from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Protocol

from pad_student.model.distributed.processes import gather_from_all
from pad_student.on_policy.round_sampling import Named, Steps, with_set_ids
from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_wire.text import WireModel


class Losses(Protocol):
    """The losses of a micro-batch's prompts, as a tensor has them."""

    def tolist(self) -> list[float]:
        """As numbers."""
        ...


class Taught(WireModel):
    """One step's losses, in nats, by the id of the prompt."""

    step: int
    losses: dict[str, float]


class PromptMemory:
    """Remembers the last loss of each prompt, and draws which prompts a step leaves out.

    A prompt is left out with probability ``most · (1 - loss / mean)``, over the mean of all remembered losses, and
    never if its loss is above that or not known.

    Invariants:
        - The draw depends on the seed, the prompt, the step, and the losses of earlier steps alone. So a continued
          run leaves out the same prompts, although the file may have steps that are done again.
        - Of a step each process keeps at least one of its prompts whose loss is known: one whose loss never becomes
          known may be refused each time.
        - All processes remember the same.

    Args:
        file: keeps the losses of every step.
        most: the greatest probability, ``skip_settled``.
        seed: of the draws.

    Raises:
        JsonLinesError: if the file cannot be read or written.
    """

    def __init__(self, file: Path, most: float, seed: int) -> None:
        self._most = most
        self._seed = seed
        self._file = file
        known = jsonl.read(file, Taught, whole=True) if file.exists() else ()
        self._steps = {each.step: each.losses for each in known}
        self._now: dict[str, float] = {}  # of the step that is being trained
        self._last: dict[str, float] = {}  # of each prompt
        self._last_before = 0  # the steps before this one are in it

    def left_out_of_all(self, steps: Steps, now: int) -> list[str]:
        """``left_out`` of each of a round's steps."""
        return [name for step, lines in steps.items() for name in self.left_out(with_set_ids(step, lines), now)]

    def left_out(self, items: Sequence[Named], now: int) -> list[str]:
        """The sets of one step that are not sampled, by id.

        Args:
            items: the step's prompts with the ids of their sets.
            now: the next step to be trained; at least that of the call before.
        """
        self._recall(now)
        mean = fmean(self._last.values()) if self._last else 0.0
        known = {name: self._last[line.id] for name, line in items if line.id in self._last}
        draws = {name: self._margin(name, loss, mean) for name, loss in known.items()}
        out = [name for name, margin in draws.items() if margin < 0]
        if out and len(out) == len(known):
            out.remove(max(draws, key=draws.__getitem__))
        return out

    def begin_step(self, without_loss: Sequence[str]) -> None:
        """Forget what was taken of a step that did not end; ``without_loss`` are sets that have no preference."""
        self._now = {}
        self._take(-1, without_loss, False, [0.0] * len(without_loss))

    def taker(self, step: int, names: Sequence[str], is_last: bool) -> "partial[None]":
        """A function that takes the losses of a micro-batch's sets; after the step's last one it is collective."""
        return partial(self._take, step, names, is_last)

    def _take(self, step: int, names: Sequence[str], is_last: bool, losses: Losses | Sequence[float]) -> None:
        values = losses if isinstance(losses, Sequence) else losses.tolist()
        for name, loss in zip(names, values, strict=False):  # a micro-batch without sets has one loss of nothing
            prompt = name.rpartition("@")[0]
            if isfinite(loss):
                self._now[prompt] = max(loss, self._now.get(prompt, 0.0))
        if is_last:
            of_all = {prompt: loss for own in gather_from_all(self._now) for prompt, loss in own.items()}
            with Appender(self._file, key="step", held=()) as out:
                out.append(Taught(step=step, losses=of_all))
            self._steps[step] = of_all

    def _recall(self, now: int) -> None:
        for step in range(self._last_before, now):
            self._last |= self._steps.pop(step, {})
        self._last_before = now

    def _margin(self, name: str, loss: float, mean: float) -> float:
        """A draw less the probability to be left out; negative means left out."""
        taught = min(1.0, loss / mean) if mean else 0.0
        draw = Random(f"{self._seed}/{name}").random()  # noqa: S311 -- not a secret
        return draw - self._most * (1 - taught)


def memory_of(rounds: Path, rank: int, most: float, seed: int) -> PromptMemory | None:
    """The memory of a run's process; None if nothing is left out."""
    return PromptMemory(rounds / f"taught{f'-{rank}' if rank else ''}.jsonl", most, seed) if most else None
