"""Checks of the teacher's replies, so that nothing is trained on impossible numbers."""

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import ValidationError

from pad_wire import (
    LikelihoodReply,
    Limits,
    SampledSet,
    ScoredResponse,
    ScoredSet,
    ScoreReply,
    SelectionReply,
    UsageReply,
)
from pad_wire.scoring import Likelihood, LikelihoodSet, Score, ScoreSet, SelectionSet
from pad_wire.service import JobUsage, KeyUsage

OF_CHOICE = ("selection_probability", "log_selection_probability", "selection_interval")
MEAN_TOLERANCE = 1e-3  # between log_likelihood / tokens and mean_log_likelihood, which may be rounded to float32


class Untrustworthy(ValueError):
    """The reply is well-formed, but does not answer the request or holds impossible numbers."""


def scored_sets(sets: Sequence[SampledSet], reply: LikelihoodReply | ScoreReply) -> list[ScoredSet]:
    """Join each set with its numbers, in the order asked.

    Raises:
        Untrustworthy: for a wrong count, a wrong id, or a number out of its range.
    """
    _check_shape(sets, reply.sets)
    try:
        return [_scored(asked, given, reply) for asked, given in zip(sets, reply.sets, strict=True)]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Untrustworthy(": ".join([*map(str, first["loc"][-1:]), first["msg"]])) from None


def selection_sets(sets: Sequence[SampledSet], reply: SelectionReply) -> list[SelectionSet]:
    """Check the selection probabilities of each set, in the order asked.

    Raises:
        Untrustworthy: for a wrong count, a wrong id, or a number out of its range.
    """
    _check_shape(sets, reply.sets)
    for given in reply.sets:
        _check_asked(given)
        if (given.label_mass or 0) < 0 or not all(0 <= each.selection_probability <= 1 for each in given.responses):
            raise Untrustworthy(f"set {given.id!r} has a probability outside [0, 1]")
    return reply.sets


def tightest_limits(limits: Sequence[Limits]) -> Limits:
    """The limits that every replica keeps."""
    values = {name: [getattr(each, name) for each in limits] for name in Limits.model_fields}
    known = {name: [value for value in some if value is not None] for name, some in values.items()}
    return Limits(**{name: min(some) for name, some in known.items() if some})


def added_usage(replies: Sequence[UsageReply]) -> UsageReply:
    """The counts of all replicas, summed by job; so are the key's limits, which each replica keeps by itself."""
    jobs: dict[str, Counter[str]] = {}
    for each in (job for reply in replies for job in reply.jobs):
        jobs.setdefault(each.job, Counter()).update(each.model_dump(exclude={"job"}))
    keys = [reply.key for reply in replies]
    first, added = keys[0], {}
    for name in KeyUsage.model_fields.keys() - {"name", "weight"}:
        values = [value for key in keys if (value := getattr(key, name)) is not None]
        added[name] = sum(values) if values else None
    key = KeyUsage(name=first.name, weight=first.weight, **added)
    return UsageReply(key=key, jobs=[JobUsage(job=job, **counts) for job, counts in jobs.items()])


def _check_shape(asked: Sequence[SampledSet], given: Sequence[LikelihoodSet | ScoreSet | SelectionSet]) -> None:
    if len(asked) != len(given):
        raise Untrustworthy(f"{len(given)} sets came back for {len(asked)}")
    for one, other in zip(asked, given, strict=True):
        if one.id != other.id:
            raise Untrustworthy(f"set {other.id!r} came back in the place of {one.id!r}")
        if len(one.responses) != len(other.responses):
            raise Untrustworthy(
                f"set {one.id!r} has {len(one.responses)} responses, {len(other.responses)} came back"
            )


def _scored(asked: SampledSet, given: LikelihoodSet | ScoreSet, reply: LikelihoodReply | ScoreReply) -> ScoredSet:
    responses = [
        ScoredResponse(
            text=response.text,
            finished=response.finished,
            ids=response.ids,
            log_likelihood=numbers.log_likelihood,
            tokens=numbers.tokens,
            mean_log_likelihood=_checked_mean(asked.id, numbers),
            unconditional_log_likelihood=numbers.unconditional_log_likelihood,
            **({name: getattr(numbers, name) for name in OF_CHOICE} if isinstance(numbers, Score) else {}),
            truncated=numbers.truncated,
        )
        for response, numbers in zip(asked.responses, given.responses, strict=True)
    ]
    choice = given if isinstance(given, ScoreSet) else None
    if choice:
        _check_asked(choice)
    return ScoredSet(
        id=asked.id,
        prompt=asked.prompt,
        responses=responses,
        answer=asked.answer,
        label_mass=choice and choice.label_mass,
        orders_asked=choice and choice.orders_asked,
        order_disagreement=choice and choice.order_disagreement,
        votes=choice and choice.votes,
        invalid_votes=choice and choice.invalid_votes,
        unreturned_mass=choice and choice.unreturned_mass,
        teacher=reply.teacher,
    )


def _check_asked(given: ScoreSet | SelectionSet) -> None:
    """A set has no label mass only if it holds one text, about which nothing was asked."""
    if given.label_mass is None and given.orders_asked != 0:
        raise Untrustworthy(f"set {given.id!r} has no label_mass")


def _checked_mean(set_id: str, numbers: Likelihood | Score) -> float | None:
    mean = numbers.mean_log_likelihood
    if mean is None or numbers.log_likelihood is None or numbers.tokens is None:
        return mean  # of a teacher that only chooses; a scored response refuses a part alone
    if numbers.tokens >= 1 and not math.isclose(
        mean, numbers.log_likelihood / numbers.tokens, rel_tol=MEAN_TOLERANCE, abs_tol=MEAN_TOLERANCE
    ):
        raise Untrustworthy(f"set {set_id!r} has a mean_log_likelihood that is not log_likelihood / tokens")
    return mean


# pyright: standard
