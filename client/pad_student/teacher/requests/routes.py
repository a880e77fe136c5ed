"""The scoring routes of the service: each with its reply and the check that joins sets with their numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson

from pad_student.teacher.checks.replies import scored_sets, selection_sets
from pad_student.teacher.options import ScoreOptions
from pad_wire import LikelihoodReply, SampledSet, ScoredSet, ScoreReply, SelectionReply
from pad_wire.scoring import SelectionSet
from pad_wire.token_logprobs import SAFETENSORS
from pad_wire.validation import parse

if TYPE_CHECKING:
    from pad_student.teacher.checks.token_replies import TokenReply, ToldSet

Reply = TypeVar("Reply", LikelihoodReply, SelectionReply, ScoreReply, "TokenReply")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Route(Generic[Reply, Result]):
    """A route that scores sets.

    Attributes:
        path: on the service.
        read: makes the reply from its bytes; raises InvalidBody or Untrustworthy.
        join: makes a result for each set from the reply; raises Untrustworthy for one that cannot be used.
        headers: of its requests, besides those of all.
        write: makes the body of a request from its fields.
    """

    path: str
    read: Callable[[bytes], Reply]
    join: Callable[[Sequence[SampledSet], Reply], list[Result]]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    write: Callable[[dict[str, Any]], bytes] = orjson.dumps


LIKELIHOOD: Route[LikelihoodReply, ScoredSet] = Route("/v1/likelihood", partial(parse, LikelihoodReply), scored_sets)
SCORE: Route[ScoreReply, ScoredSet] = Route("/v1/score", partial(parse, ScoreReply), scored_sets)
SELECTION: Route[SelectionReply, SelectionSet] = Route(
    "/v1/selection", partial(parse, SelectionReply), selection_sets
)


def token_logprobs_route(options: ScoreOptions) -> Route["TokenReply", "ToldSet"]:
    """The route of distributions, whose replies must have the ids that ``options`` ask for."""
    # Here, and below: the other routes need neither numpy nor safetensors.
    from pad_student.teacher.checks.token_replies import read_token_reply, told_sets

    join = partial(told_sets, top=options.token_top or 0, reference=options.reference)
    return Route("/v1/token_logprobs", read_token_reply, join, {"Accept": SAFETENSORS})


def named_ids_route(told: Sequence["ToldSet"]) -> Route["TokenReply", "ToldSet"]:
    """The same route of a reference, asked at the ids that the teacher named; its results have both."""
    from pad_student.teacher.checks.token_replies import read_token_reply, with_reference
    from pad_student.teacher.requests.named_ids import request_body

    headers = {"Accept": SAFETENSORS, "Content-Type": SAFETENSORS}
    join, write = partial(with_reference, told), partial(request_body, told)
    return Route("/v1/token_logprobs", read_token_reply, join, headers, write)
