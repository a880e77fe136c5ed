"""The choice of a teacher behind an API as a reply: with the interval in which each probability lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.black_box.teacher import BlackBoxTeacher
from pad_teacher.scoring.questions import Choice
from pad_teacher.scoring.selection import AskedSet
from pad_wire import ScoreReply, ScoreRequest, SelectionReply, SelectionRequest, Usage
from pad_wire.scoring import Score, ScoreSet, Selection, SelectionSet


@dataclass(frozen=True, slots=True)
class BoundedChoice(Choice):
    """A choice and how sure it is; ``log_probabilities`` are of votes, ``unreturned_mass`` of label probabilities."""

    intervals: list[tuple[float, float]]
    log_probabilities: list[float] | None = None
    votes: int | None = None
    invalid_votes: int | None = None
    unreturned_mass: float | None = None


def of_one_text(*, votes: bool) -> BoundedChoice:
    """The choice among copies of one text, which nobody was asked about."""
    return BoundedChoice([1.0], None, None, 0, [], [(1.0, 1.0)], [0.0] if votes else None)


def reply_of(
    teacher: BlackBoxTeacher,
    request: SelectionRequest,
    asked: Sequence[AskedSet],
    choices: Sequence[BoundedChoice],
    usage: Usage,
) -> Steps[SelectionReply | ScoreReply]:
    """The reply to a request of ``/v1/selection`` or of ``/v1/score``."""
    chosen: list[SelectionSet] = []
    for item, choice in zip(asked, choices, strict=True):
        chosen.append(_set(item, choice, per_order=request.per_order))
        yield
    if not isinstance(request, ScoreRequest):
        return SelectionReply(teacher=teacher.id, sets=chosen, usage=usage)
    scored: list[ScoreSet] = []
    for each in chosen:
        fields: dict[str, Any] = {**dict(each), "responses": [_score(response) for response in each.responses]}
        scored.append(ScoreSet(**fields))
        yield
    return ScoreReply(teacher=teacher.id, sets=scored, usage=usage)


def _set(item: AskedSet, choice: BoundedChoice, *, per_order: bool) -> SelectionSet:
    logs = choice.log_probabilities
    responses = [
        Selection(
            selection_probability=choice.selection_probabilities[i],
            log_selection_probability=None if logs is None else logs[i],
            selection_interval=list(choice.intervals[i]),
        )
        for i in item.option
    ]
    return SelectionSet(
        **item.fields(choice, per_order=per_order),
        responses=responses,
        votes=choice.votes,
        invalid_votes=choice.invalid_votes,
        unreturned_mass=choice.unreturned_mass,
    )


def _score(response: Selection) -> Score:
    """With its reward at alpha 1: ln p, or of votes its posterior mean."""
    logarithm = response.log_selection_probability
    reward = log(response.selection_probability) if logarithm is None else logarithm
    return Score(**dict(response), reward=reward)
