"""The teacher's own template tried on the conversations of a run, before the first response is sampled."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from pad_student.data.prompts import PromptLine
from pad_student.preference.settings import RefusalSettings
from pad_student.teacher.errors import TeacherRefused
from pad_student.teacher.requests.refusals import REFUSES_ONE_SET
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import as_messages

MOST_KINDS = 16  # sequences of roles, the most frequent ones; each costs a request of one short set
KNOWN = ("user",)  # the service itself tries it at its start


class ScoresLikelihood(Protocol):
    """The part of the teacher's client that a trial needs."""

    def likelihood(self, sets: list[SampledSet]) -> list[ScoredSet]:
        """See ``Teacher.likelihood``."""
        ...


def try_template(
    teacher: ScoresLikelihood,
    prompts: Sequence[PromptLine],
    refusals: RefusalSettings,
    say: Callable[[str], None],
) -> None:
    """Have the teacher score a word after the shortest prompt of each sequence of roles.

    Args:
        teacher: its client.
        prompts: the run's.
        refusals: whether refused prompts may be left out later, and how many.
        say: receives one line if some will be.

    Raises:
        TeacherRefused: in the template's own words, if the run would end for it.
    """
    kinds: defaultdict[tuple[str, ...], list[PromptLine]] = defaultdict(list)
    for line in prompts:
        kinds[tuple(message["role"] for message in as_messages(line.prompt))].append(line)
    kinds.pop(KNOWN, None)
    refused = 0
    first: TeacherRefused | None = None
    for lines in sorted(kinds.values(), key=len, reverse=True)[:MOST_KINDS]:
        if (found := _refusal(teacher, min(lines, key=lambda line: len(str(line.prompt))))) is not None:
            refused += len(lines)
            first = first or found
    if first is None:
        return
    counted = f"{first}; {refused} of {len(prompts)} prompts have roles that it refuses"
    if refusals.on_refused == "stop" or refused > refusals.most_refused * len(prompts):
        raise TeacherRefused(counted, first.code, first.where)
    say(f"{counted}, and will be left out")


def _refusal(teacher: ScoresLikelihood, line: PromptLine) -> TeacherRefused | None:
    try:
        teacher.likelihood([SampledSet(id=line.id, prompt=line.prompt, responses=[Response(text="ok")])])
    except TeacherRefused as refused:
        if refused.code == "template_refused":
            return refused
        if refused.code not in REFUSES_ONE_SET:
            raise
    return None
