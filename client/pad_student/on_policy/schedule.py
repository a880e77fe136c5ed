"""The schedule of rounds: it begins this step's, and the next one if staleness allows, so the teacher never waits."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pad_student.data.prompts import PromptLine
from pad_student.on_policy.costs import Costs
from pad_student.on_policy.prompt_memory import PromptMemory
from pad_student.on_policy.round_sampling import SECOND
from pad_student.on_policy.rounds import Round, Rounds
from pad_student.preference.config import PADConfig
from pad_wire import ScoredSet

NextPrompts = Callable[[], Sequence[Sequence[PromptLine]]]  # a step's micro-batches of prompts


class StepSets:
    """A step's micro-batches of scored sets, each waited for when it is taken."""

    def __init__(self, round_: Round, step: int, costs: Costs) -> None:
        self.staleness = step - round_.sampled_at
        self.ids = round_.set_ids[step]
        self._count = round_.micro_batches[step]
        self.responses = {name: round_.responses[name] for name in self.ids if name in round_.responses}
        self.skipped = round_.skipped
        self.left_out = round_.left_out.get(step, 0)
        self._scored = partial(round_.scored, step)
        self._costs = costs

    def __len__(self) -> int:
        return self._count

    def adapted(self) -> tuple[dict[str, float], int]:
        """Shares of the step's prompts that were left out, and that have a second set; and how many there are."""
        second = sum(name.endswith(SECOND) for name in self.ids)
        prompts = max(1, len(self.ids) - second + self.left_out)
        return {"share/settled": self.left_out / prompts, "share/unsettled": second / prompts}, prompts

    def without(self, repeated: frozenset[int]) -> Iterator[list[ScoredSet]]:
        """The micro-batches without the sets at these places of ``ids``."""
        scored = self._scored(repeated)
        for _ in range(self._count):
            with self._costs.phase("waited_for_teacher"):
                sets = next(scored)
            yield sets


class Batches:
    """As many batches as ``sets`` has, each made when it is taken; the Trainer asks for their number first."""

    def __init__(self, sets: StepSets, make: Callable[[StepSets], Iterator[Any]]) -> None:
        self._sets = sets
        self._make = make

    def __len__(self) -> int:
        return len(self._sets)

    def __iter__(self) -> Iterator[Any]:
        return self._make(self._sets)


class RoundSchedule:
    """Keeps rounds begun as far ahead as staleness allows.

    Invariants:
        - The next round's sets are all on disk before this round's first step is trained. So a run continues exactly
          from any checkpoint, although the weights that sampled those sets are gone.
        - The last round of an epoch has no next one.
        - A step's prompts are taken from the epoch once, in order.

    Args:
        rounds: samples, and has sets scored.
        config: how many steps a round has, and how many rounds are begun ahead.
        costs: counts the seconds of sampling and waiting.

    Attributes:
        adapts: whether prompts may be left out or have a second set.
    """

    def __init__(self, rounds: Rounds, config: PADConfig, costs: Costs) -> None:
        self._rounds = rounds
        self._steps_a_round = config.steps_a_round
        self._ahead = config.rounds_ahead
        self.adapts = config.skip_settled > 0 or config.second_set_above is not None
        self._costs = costs
        self._begun: deque[Round] = deque()
        self._planned: dict[int, Sequence[Sequence[PromptLine]]] = {}  # of steps whose round has not begun

    def sets_of(self, step: int, last: int, prompts: NextPrompts, model: Any) -> StepSets | None:
        """Begin the rounds that are due before ``step``.

        Args:
            step: the next step.
            last: the run's number of steps.
            prompts: gives the next step's micro-batches of prompts, none at the end of an epoch.
            model: the student.

        Returns:
            The step's sets; None at the end of an epoch.

        Raises:
            SamplingError: if the student cannot sample.
            JsonLinesError: if a round cannot be written or read.
        """
        while self._begun and self._begun[0].end <= step:
            self._begun.popleft()
        while len(self._begun) <= self._ahead:
            first = self._begun[-1].end if self._begun else step
            count = min(self._steps_a_round - first % self._steps_a_round, last - first)
            for number in range(first, first + count):
                if number not in self._planned and (micro_batches := prompts()):
                    self._planned[number] = micro_batches
            steps = {
                number: micro_batches for number, micro_batches in self._planned.items() if number < first + count
            }
            if not steps:
                break
            before = self._begun[-1] if self._begun else None
            with self._costs.phase("sampled"):
                waiting = self._costs.phase("waited_for_teacher")
                begun = self._rounds.begin(model, steps, step, before, waiting)
            for number in begun.micro_batches:
                del self._planned[number]
            self._begun.append(begun)
        return StepSets(self._begun[0], step, self._costs) if self._begun else None

    @property
    def memory(self) -> PromptMemory | None:
        """What prompts taught; None if none is left out for that."""
        return self._rounds.memory

    @property
    def refused(self) -> Mapping[str, int]:
        """Sets that the teacher refused, by the code of the refusal."""
        return self._rounds.refusals.counts

    def stop(self) -> None:
        """Have nothing more scored; the rounds on disk can be continued."""
        while self._begun:
            self._begun.popleft().scorer.stop()
