"""Which responses of two models are compared: those to one prompt, one to one; the others are counted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pad_student.errors import EvaluationError
from pad_wire import SampledSet


class Paired(NamedTuple):
    """Pairs of responses, and what has no counterpart.

    Attributes:
        comparisons: sets of two responses, the model's and the baseline's, with ids like ``p1#0``.
        not_compared: how many of each kind were left out.
    """

    comparisons: list[SampledSet]
    not_compared: dict[str, int]


def pair(ours: Sequence[SampledSet], theirs: Sequence[SampledSet]) -> Paired:
    """Pair the k-th responses to each prompt.

    Raises:
        EvaluationError: two different prompts have one id.
    """
    baseline = {each.id: each for each in theirs}
    both = [(each, baseline[each.id]) for each in ours if each.id in baseline]
    for one, other in both:
        if one.prompt != other.prompt:
            raise EvaluationError(
                f"the prompt {one.id!r} of the model is another one than the baseline's; answer the same prompts"
            )
    comparisons = [
        SampledSet(id=f"{one.id}#{k}", prompt=one.prompt, responses=list(responses))
        for one, other in both
        for k, responses in enumerate(zip(one.responses, other.responses, strict=False))
    ]
    not_compared = {
        "prompts that the baseline lacks": len(ours) - len(both),
        "prompts that the model lacks": len(theirs) - len(both),
        "responses without a counterpart": sum(abs(len(a.responses) - len(b.responses)) for a, b in both),
    }
    return Paired(comparisons, not_compared)


def unique(name: str, sets: Iterable[SampledSet]) -> list[SampledSet]:
    """All sets.

    Raises:
        EvaluationError: two of them have one id.
    """
    found: dict[str, SampledSet] = {}
    for each in sets:
        if found.setdefault(each.id, each) is not each:
            raise EvaluationError(f"{name}: two sets have the id {each.id!r}; keep one of them")
    return list(found.values())
