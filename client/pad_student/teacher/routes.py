"""The scoring routes of the service: each with its reply and the check that joins sets with their numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pad_student.teacher.replies import scored_sets, selection_sets
from pad_wire import LikelihoodReply, SampledSet, ScoredSet, ScoreReply, SelectionReply
from pad_wire.scoring import SelectionSet

Reply = TypeVar("Reply", LikelihoodReply, SelectionReply, ScoreReply)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Route(Generic[Reply, Result]):
    """A route that scores sets.

    Attributes:
        path: on the service.
        reply: the model of its reply.
        join: makes a result for each set from the reply; raises Untrustworthy for one that cannot be used.
    """

    path: str
    reply: type[Reply]
    join: Callable[[Sequence[SampledSet], Reply], list[Result]]


LIKELIHOOD: Route[LikelihoodReply, ScoredSet] = Route("/v1/likelihood", LikelihoodReply, scored_sets)
SCORE: Route[ScoreReply, ScoredSet] = Route("/v1/score", ScoreReply, scored_sets)
SELECTION: Route[SelectionReply, SelectionSet] = Route("/v1/selection", SelectionReply, selection_sets)
