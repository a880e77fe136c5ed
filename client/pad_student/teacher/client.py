"""A client of the teacher service. A reply that cannot be trusted is retried a few times, and never returned.

TeacherError
├── TeacherUnreachable   dead, refused, too slow, overloaded or failing, after all retries
├── TeacherRefused       a permanent 4xx, with its ``code`` and ``where``; never retried
├── TeacherChanged       another fingerprint than the run began with
│   └── TeachersDiffer   two replicas with different fingerprints
└── TeacherNonsense      a reply that is not JSON, of another shape, or with impossible numbers
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

import orjson

from pad_student.teacher.busy import Busy
from pad_student.teacher.connection import Connection, Question, Transport
from pad_student.teacher.errors import (
    TeacherChanged,
    TeacherError,
    TeacherNonsense,
    TeacherRefused,
    TeachersDiffer,
    TeacherUnreachable,
)
from pad_student.teacher.failover import Service
from pad_student.teacher.replies import Untrustworthy, added_usage, scored_sets, selection_sets, tightest_limits
from pad_student.teacher.stream import SETS_PER_REQUEST, ordered_map, split
from pad_wire import (
    Form,
    LikelihoodReply,
    Limits,
    ModelCard,
    ModelList,
    Orders,
    SampledSet,
    ScoredSet,
    ScoreReply,
    SelectionReply,
    UsageReply,
)
from pad_wire.scoring import SelectionSet
from pad_wire.validation import parse

__all__ = [
    "Teacher",
    "TeacherChanged",
    "TeacherError",
    "TeacherNonsense",
    "TeacherRefused",
    "TeacherUnreachable",
    "TeachersDiffer",
]

TIMEOUT = 120.0  # seconds for one reply, from first byte sent to last byte read
PATIENCE = 600.0  # seconds for one request with all its retries
WORKERS = 4  # requests on their way at once to each replica, so that the teacher's batcher stays full

Reply = TypeVar("Reply", LikelihoodReply, SelectionReply, ScoreReply)
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Teacher:
    """A client of one teacher, in one or more replicas; thread-safe, and a context manager that closes connections.

    ``fingerprint`` is the teacher's as first seen, and ``tokens_scored`` counts the teacher tokens of all replies.
    Replicas share the work; one that fails is left out until it answers again, and what was on its way to it is asked
    of the others.

    Args:
        url: where the service is, as in ``http://127.0.0.1:8010``, or where each replica is.
        key: the service's key, if it asks for one.
        job: the name that the service counts this work under.
        timeout: seconds for one reply; the service gives up on a request at the same time.
        patience: seconds for one request with all of its retries.
        fingerprint: the teacher that a continued run began with; without it the first one seen has to stay.
        transport: an httpx transport in the place of the network.

    Raises:
        TeacherUnreachable: where ``url`` is not an HTTP address, or holds none.
        TeacherRefused: for a key or a job that no HTTP header can carry.

    """

    def __init__(
        self,
        url: str | Sequence[str],
        key: str | None = None,
        job: str | None = None,
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        fingerprint: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.tokens_scored = 0
        urls = dict.fromkeys([url] if isinstance(url, str) else url)
        if not urls:
            raise TeacherUnreachable("no teacher's URL is given; give one as in http://127.0.0.1:8010")
        connections = [Connection(each, key, job, timeout, transport) for each in urls]
        self._service = Service(connections, lambda: Question("/v1/models", self._only_model), patience)
        self._seen_at: dict[str, None] = {}  # URLs that had the fingerprint, in order
        self._limits: Limits | None = None
        self._lock = threading.Lock()
        self._busy = Busy()

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; what is still on its way fails."""
        self._service.close()

    @property
    def busy_seconds(self) -> float:
        """Seconds in all so far in which sets were on their way."""
        return self._busy.seconds

    def pin(self, fingerprint: str) -> None:
        """Take scores of this teacher alone.

        Raises:
            TeacherChanged: where another one has answered already.
        """
        with self._lock:
            if self.fingerprint not in (None, fingerprint):
                raise TeacherChanged(f"the scores so far are of {fingerprint}, but the teacher is {self.fingerprint}")
            self.fingerprint = fingerprint

    def model(self) -> ModelCard:
        """The model, its fingerprint and the limits of all replicas that answer now, which later requests respect.

        Raises:
            TeacherError: see the tree at the top of this file.

        """
        cards = self._service.ask_each(Question("/v1/models", self._only_model))
        self._limits = tightest_limits([card.limits for card in cards])
        return cards[0].model_copy(update={"limits": self._limits})

    def usage(self) -> UsageReply:
        """Teacher tokens of each job of this key, as the service counts them, over all replicas that answer now.

        Raises:
            TeacherError: see the tree at the top of this file.

        """
        return added_usage(
            self._service.ask_each(Question("/v1/usage", lambda content, _: parse(UsageReply, content)))
        )

    def score(
        self,
        sets: Iterable[SampledSet],
        *,
        alpha: float | None = None,
        form: Form = "listwise",
        orders: Orders = "cyclic",
        truncate: bool = False,
    ) -> list[ScoredSet]:
        """Likelihoods and selection probabilities of every response; see ``score_stream``."""
        return list(self.score_stream(sets, alpha=alpha, form=form, orders=orders, truncate=truncate))

    def score_stream(
        self,
        sets: Iterable[SampledSet],
        *,
        alpha: float | None = None,
        form: Form = "listwise",
        orders: Orders = "cyclic",
        truncate: bool = False,
        skip_too_long: bool = False,
        workers: int = WORKERS,
        sets_per_request: int = SETS_PER_REQUEST,
    ) -> Iterator[ScoredSet]:
        """Yield each set with its numbers, in order, with several requests on their way at once.

        ``workers`` is how many, to each replica. ``alpha`` is the weight that the selection probability is to have in
        the reward: at 0 the multiple-choice questions are not asked, and ``selection_probability`` is None. ``sets``
        is read no further ahead than the requests on their way need; each is sent with ``sets_per_request`` of them
        (the last with fewer) or what the service takes, before the next set is read. ``skip_too_long`` leaves out the
        sets that exceed the teacher's context, with a line in the log.

        Raises:
            TeacherError: see the tree at the top of this file.

        """
        size = sets_per_request
        options: dict[str, Any] = {"truncate": truncate}
        if alpha == 0:
            return self._stream(
                "/v1/likelihood", LikelihoodReply, scored_sets, sets, workers, size, skip_too_long, **options
            )
        options |= {"form": form, "orders": orders}
        return self._stream("/v1/score", ScoreReply, scored_sets, sets, workers, size, skip_too_long, **options)

    def likelihood(self, sets: Iterable[SampledSet], *, truncate: bool = False) -> list[ScoredSet]:
        """Log-likelihoods alone: ``selection_probability`` and ``label_mass`` are None."""
        return list(self.score_stream(sets, alpha=0, truncate=truncate))

    def selection(
        self,
        sets: Iterable[SampledSet],
        *,
        form: Form = "listwise",
        orders: Orders = "cyclic",
        truncate: bool = False,
        workers: int = WORKERS,
    ) -> Iterator[SelectionSet]:
        """Yield the selection probabilities of each set's responses, in order."""
        options = {"form": form, "orders": orders, "truncate": truncate}
        return self._stream("/v1/selection", SelectionReply, selection_sets, sets, workers, **options)

    def _stream(
        self,
        path: str,
        reply_model: type[Reply],
        join: Callable[[Sequence[SampledSet], Reply], list[Answer]],
        sets: Iterable[SampledSet],
        workers: int,
        sets_per_request: int = SETS_PER_REQUEST,
        skip_too_long: bool = False,
        **options: Any,
    ) -> Iterator[Answer]:
        def ask(request: list[SampledSet]) -> list[Answer]:
            def understand(content: bytes, url: str) -> tuple[Reply, list[Answer]]:
                reply = parse(reply_model, content)
                answers = join(request, reply)
                self._check_fingerprint(reply.teacher.fingerprint, url)
                return reply, answers

            body = orjson.dumps({"sets": [each.model_dump(exclude_none=True) for each in request], **options})
            with self._busy.inside():
                reply, answers = self._service.ask(Question(path, understand, body, request))
            with self._lock:
                self.tokens_scored += reply.usage.total_tokens
            return answers

        def ask_what_fits(request: list[SampledSet]) -> list[Answer]:
            try:
                return ask(request)
            except TeacherRefused as refused:
                if refused.code != "too_long":
                    raise
                if len(request) > 1:
                    return [answer for each in request for answer in ask_what_fits([each])]
                log.warning("the set %s is left out: %s", request[0].id, refused)
                return []

        requests = split(sets, self._limits, sets_per_request)
        how = ask_what_fits if skip_too_long else ask
        with closing(ordered_map(how, requests, workers * self._service.size)) as replies:
            for answers in replies:
                yield from answers

    def _only_model(self, content: bytes, url: str) -> ModelCard:
        models = parse(ModelList, content).data
        if len(models) != 1:
            raise Untrustworthy(f"it lists {len(models)} models where there should be one")
        self._check_fingerprint(models[0].fingerprint, url)
        return models[0]

    def _check_fingerprint(self, fingerprint: str, url: str) -> None:
        with self._lock:
            if self.fingerprint is None:
                self.fingerprint = fingerprint
            if fingerprint == self.fingerprint:
                self._seen_at[url] = None
                return
            other = next((each for each in self._seen_at if each != url), None)
        if other:
            raise TeachersDiffer(
                f"the teacher at {url} is {fingerprint}, but the one at {other} is {self.fingerprint}; "
                "serve the same model, tokenizer, template and dtype at both, or leave one out"
            )
        raise TeacherChanged(
            f"the teacher at {url} changed from {self.fingerprint} to {fingerprint}; "
            "bring the first one back, or begin a new output"
        )


# pyright: standard
