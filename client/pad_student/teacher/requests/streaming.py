"""Streams of response sets to the teacher: requests are made, sent while others are on their way, and checked."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pad_student.teacher.checks.fingerprint import FingerprintGuard
from pad_student.teacher.checks.replies import Untrustworthy
from pad_student.teacher.errors import TeacherNonsense, TeacherRefused, TeacherSlow
from pad_student.teacher.network.connection import Call
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.replicas.failover import Replicas
from pad_student.teacher.requests.busy import Busy
from pad_student.teacher.requests.cutting import SETS_PER_REQUEST, in_requests, work_of
from pad_student.teacher.requests.ordered_map import ordered_map
from pad_student.teacher.requests.refusals import REFUSES_ONE_SET, Refusals
from pad_student.teacher.requests.routes import (
    LIKELIHOOD,
    SCORE,
    Reply,
    Route,
    named_ids_route,
    token_logprobs_route,
)
from pad_wire import Limits, ModelCard, ModelList, SampledSet, ScoredResponse, ScoredSet
from pad_wire.validation import parse

if TYPE_CHECKING:
    from pad_student.teacher.checks.token_replies import ToldSet

NOT_SENT: Any = {"answer": True, "responses": {"__all__": {"ids"}}}  # what only the student needs of a set

Result = TypeVar("Result")
Ask = Callable[[list[SampledSet]], list[Result]]

log = logging.getLogger(__name__)


class SetStream:
    """Sends response sets to the replicas of one teacher, and yields their results in order; thread-safe.

    Invariants:
        - No reply counts before its sets and the teacher's fingerprint are checked.
        - ``tokens_scored`` counts the teacher tokens of all replies.
        - ``busy`` runs while a request is on its way.
        - Requests keep to ``limits``, the service's, once they are known.
        - A request that was too slow is halved, and later ones have no more work than a half.

    Args:
        replicas: that answer the requests.
        guard: of the teacher's fingerprint.
        reference: the stream to the teacher's reference, if that is another service.
    """

    def __init__(self, replicas: Replicas, guard: FingerprintGuard, reference: "SetStream | None" = None) -> None:
        self.tokens_scored = 0
        self.busy = Busy()
        self.limits: Limits | None = None
        self._replicas = replicas
        self._guard = guard
        self._reference = reference
        self._lock = threading.Lock()
        self._most_work = math.inf

    def run(
        self,
        ask: Ask[Result],
        sets: Iterable[SampledSet],
        workers: int,
        options: ScoreOptions,
        sets_per_request: int = SETS_PER_REQUEST,
    ) -> Iterator[Result]:
        """Yield each set's result, in order.

        Args:
            ask: has one request's sets scored.
            sets: read no further ahead than the requests on their way need.
            workers: concurrent requests to each replica.
            options: how the sets are scored, which decides their work.
            sets_per_request: sets in each request but the last, if the service takes as many.
        """
        work = partial(work_of, options=options)
        requests = in_requests(sets, self.limits, sets_per_request, work, lambda: self._most_work)
        halving = partial(self._halving, ask, work)
        with closing(ordered_map(halving, requests, workers * self._replicas.size)) as replies:
            for results in replies:
                yield from results

    def scoring(self, options: ScoreOptions, refusals: Refusals) -> Ask[ScoredSet]:
        """How one request's sets are scored: on the route that ``options`` need, perhaps without refused ones."""
        if options.token_top:
            ask = partial(self._ask_tokens, options)
        elif options.asks_selection:
            ask = partial(self.ask, SCORE, options.of_score)
        else:
            ask = partial(self.ask, LIKELIHOOD, options.of_likelihood)
        rewarded = partial(_rewarded, options.alpha, ask)
        return partial(_skipping, refusals, rewarded)

    def ask(self, route: Route[Reply, Result], fields: dict[str, Any], request: list[SampledSet]) -> list[Result]:
        """Have one request's sets scored, and check their numbers.

        Raises:
            TeacherError: if there was no usable answer.
        """

        def read(content: bytes, url: str) -> tuple[Reply, list[Result]]:
            reply = route.read(content)
            results = route.join(request, reply)
            self._guard.check(reply.teacher.fingerprint, url)
            return reply, results

        sets = [each.model_dump(exclude_none=True, exclude=NOT_SENT) for each in request]
        body = route.write({"sets": sets, **fields})
        with self.busy.inside():
            reply, results = self._replicas.ask(Call(route.path, read, body, request, route.headers))
        with self._lock:
            self.tokens_scored += reply.usage.total_tokens
        return results

    def _ask_tokens(self, options: ScoreOptions, request: list[SampledSet]) -> list[ScoredSet]:
        """The distributions of one request's sets; of teacher and reference one after the other, if those are two."""
        other = self._reference if options.reference else None
        own = replace(options, reference=options.reference and other is None)
        with self.busy.inside():
            told = self.ask(token_logprobs_route(own), own.of_token_logprobs, request)
            if other is not None:
                told = other.ask_at_named_ids(told, own)
        return [each.scored() for each in told]

    def ask_at_named_ids(self, told: Sequence["ToldSet"], options: ScoreOptions) -> list["ToldSet"]:
        """Join what the teacher told with the distributions of this service at the same ids.

        Raises:
            TeacherChanged: if a refusal or a useless reply is of another model than the first one.
            TeacherError: if there was no usable answer.
        """
        from pad_student.teacher.requests.named_ids import in_bodies, whole_sets

        fields = options.of_token_logprobs
        del fields["top"]  # the ids say
        most_bytes = self.limits.max_body_bytes if self.limits else math.inf
        parts: list[ToldSet] = []
        for body in in_bodies(told, most_bytes):
            try:
                parts += self.ask(named_ids_route(body), fields, [each.sampled for each in body])
            except (TeacherRefused, TeacherNonsense) as error:
                if getattr(error, "code", None) not in REFUSES_ONE_SET:
                    self._replicas.ask_each(models_call(self._guard))
                raise
        return whole_sets(told, parts)

    def _halving(
        self, ask: Ask[Result], work: Callable[[SampledSet], float], request: list[SampledSet]
    ) -> list[Result]:
        try:
            return ask(request)
        except TeacherSlow as slow:
            if len(request) == 1:
                raise
            with self._lock:
                self._most_work = min(self._most_work, sum(map(work, request)) / 2)
            log.warning("%s; its %d sets are sent again in two requests", slow, len(request))
            halves = _halves(request)
            return [result for half in halves for result in self._halving(ask, work, half)]


def models_call(guard: FingerprintGuard) -> Call[ModelCard]:
    """The call that asks a replica for its one model, and checks the model's fingerprint."""

    def read(content: bytes, url: str) -> ModelCard:
        models = parse(ModelList, content).data
        if len(models) != 1:
            raise Untrustworthy(f"it lists {len(models)} models instead of one")
        guard.check(models[0].fingerprint, url)
        return models[0]

    return Call("/v1/models", read)


def _rewarded(alpha: float | None, ask: Ask[ScoredSet], request: list[SampledSet]) -> list[ScoredSet]:
    """Each response with its reward, (1 - alpha) * mean log-likelihood + alpha * ln selection probability."""
    results = ask(request)
    if alpha is None:
        return results
    return [
        each.model_copy(
            update={"responses": [one.model_copy(update={"reward": _reward(one, alpha)}) for one in each.responses]}
        )
        for each in results
    ]


def _reward(response: ScoredResponse, alpha: float) -> float | None:
    """None for a selection probability of 0, which has no logarithm; of votes, its posterior mean is the choice's."""
    mean, chosen = response.mean_log_likelihood, response.selection_probability
    if alpha == 0:
        return mean
    logarithm = response.log_selection_probability
    if logarithm is None:
        logarithm = math.log(chosen) if chosen else None
    if alpha == 1 or logarithm is None or mean is None:
        return logarithm if alpha == 1 else None
    return (1 - alpha) * mean + alpha * logarithm


def _skipping(refusals: Refusals, ask: Ask[Result], request: list[SampledSet]) -> list[Result]:
    """Ask for a request's sets; if it is refused for one of them, ask for halves, and leave the refused sets out."""
    try:
        results = ask(request)
    except TeacherRefused as refused:
        if not refusals.takes(refused):
            raise
        if len(request) > 1:
            return [result for half in _halves(request) for result in _skipping(refusals, ask, half)]
        refusals.leave_out(request[0], refused)
        return []
    refusals.answered(len(request))
    return results


def _halves(request: list[SampledSet]) -> tuple[list[SampledSet], list[SampledSet]]:
    middle = len(request) // 2
    return request[:middle], request[middle:]
