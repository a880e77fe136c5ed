"""Streams of response sets to the teacher: requests are made, sent while others are on their way, and checked."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

import orjson

from pad_student.teacher.busy import Busy
from pad_student.teacher.connection import Call
from pad_student.teacher.errors import TeacherRefused
from pad_student.teacher.failover import Replicas
from pad_student.teacher.fingerprint import FingerprintGuard
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.ordered_map import ordered_map
from pad_student.teacher.replies import Untrustworthy
from pad_student.teacher.requests import SETS_PER_REQUEST, in_requests
from pad_student.teacher.routes import LIKELIHOOD, SCORE, Reply, Route
from pad_wire import Limits, ModelCard, ModelList, SampledSet, ScoredSet
from pad_wire.validation import parse

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

    Args:
        replicas: that answer the requests.
        guard: of the teacher's fingerprint.
    """

    def __init__(self, replicas: Replicas, guard: FingerprintGuard) -> None:
        self.tokens_scored = 0
        self.busy = Busy()
        self.limits: Limits | None = None
        self._replicas = replicas
        self._guard = guard
        self._lock = threading.Lock()

    def run(
        self, ask: Ask[Result], sets: Iterable[SampledSet], workers: int, sets_per_request: int = SETS_PER_REQUEST
    ) -> Iterator[Result]:
        """Yield each set's result, in order.

        Args:
            ask: has one request's sets scored.
            sets: read no further ahead than the requests on their way need.
            workers: concurrent requests to each replica.
            sets_per_request: sets in each request but the last, if the service takes as many.
        """
        requests = in_requests(sets, self.limits, sets_per_request)
        with closing(ordered_map(ask, requests, workers * self._replicas.size)) as replies:
            for results in replies:
                yield from results

    def scoring(self, options: ScoreOptions, skip_too_long: bool) -> Ask[ScoredSet]:
        """How one request's sets are scored: on the route that ``options`` need, perhaps without those too long."""
        if options.asks_selection:
            ask = partial(self.ask, SCORE, options.of_score)
        else:
            ask = partial(self.ask, LIKELIHOOD, options.of_likelihood)
        return partial(_skipping, ask) if skip_too_long else ask

    def ask(self, route: Route[Reply, Result], fields: dict[str, Any], request: list[SampledSet]) -> list[Result]:
        """Have one request's sets scored, and check their numbers.

        Raises:
            TeacherError: if there was no usable answer.
        """

        def read(content: bytes, url: str) -> tuple[Reply, list[Result]]:
            reply = parse(route.reply, content)
            results = route.join(request, reply)
            self._guard.check(reply.teacher.fingerprint, url)
            return reply, results

        body = orjson.dumps({"sets": [each.model_dump(exclude_none=True) for each in request], **fields})
        with self.busy.inside():
            reply, results = self._replicas.ask(Call(route.path, read, body, request))
        with self._lock:
            self.tokens_scored += reply.usage.total_tokens
        return results


def models_call(guard: FingerprintGuard) -> Call[ModelCard]:
    """The call that asks a replica for its one model, and checks the model's fingerprint."""

    def read(content: bytes, url: str) -> ModelCard:
        models = parse(ModelList, content).data
        if len(models) != 1:
            raise Untrustworthy(f"it lists {len(models)} models instead of one")
        guard.check(models[0].fingerprint, url)
        return models[0]

    return Call("/v1/models", read)


def _skipping(ask: Ask[Result], request: list[SampledSet]) -> list[Result]:
    """Ask for a request's sets; if it is refused as too long, ask for each set alone and leave out those too long."""
    try:
        return ask(request)
    except TeacherRefused as refused:
        if refused.code != "too_long":
            raise
        if len(request) > 1:
            return [result for each in request for result in _skipping(ask, [each])]
        log.warning("the set %s is left out: %s", request[0].id, refused)
        return []
