"""A client of the teacher service. A reply that cannot be trusted is retried a few times, and never returned.

TeacherError
├── TeacherUnreachable   dead, refused, too slow, overloaded or failing, after all retries
├── TeacherRefused       a permanent 4xx, with its ``code`` and ``where``; never retried
├── TeacherChanged       another fingerprint than the run began with
└── TeacherNonsense      a reply that is not JSON, of another shape, or with impossible numbers
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

import orjson

from pad_student.batching import ordered_map, split
from pad_student.connection import Connection, Transport
from pad_student.replies import Untrustworthy, scored_sets, selection_sets
from pad_student.teacher_errors import (
    TeacherChanged,
    TeacherError,
    TeacherNonsense,
    TeacherRefused,
    TeacherUnreachable,
)
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
]

TIMEOUT = 120.0  # seconds for one reply, from first byte sent to last byte read
PATIENCE = 600.0  # seconds for one request with all its retries
WORKERS = 4  # requests on their way at once, so that the teacher's batcher stays full

Reply = TypeVar("Reply", LikelihoodReply, SelectionReply, ScoreReply)
Answer = TypeVar("Answer")


class Teacher:
    """A client of one teacher service; thread-safe, and a context manager that closes its connections.

    ``fingerprint`` is the teacher's as first seen, and ``tokens_scored`` counts the teacher tokens of all replies.

    Args:
        url: where the service is, as in ``http://127.0.0.1:8010``.
        key: the service's key, if it asks for one.
        job: the name that the service counts this work under.
        timeout: seconds for one reply; the service gives up on a request at the same time.
        patience: seconds for one request with all of its retries.
        fingerprint: the teacher that a continued run began with; without it the first one seen has to stay.
        transport: an httpx transport in the place of the network.

    Raises:
        TeacherUnreachable: where ``url`` is not an HTTP address.
        TeacherRefused: for a key or a job that no HTTP header can carry.

    """

    def __init__(
        self,
        url: str,
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
        self._connection = Connection(url, key, job, timeout, patience, transport)
        self._limits: Limits | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; what is still on its way fails."""
        self._connection.close()

    def model(self) -> ModelCard:
        """The model, its fingerprint and its limits, which later requests respect.

        Raises:
            TeacherError: see the tree at the top of this file.

        """
        card = self._connection.call("GET", "/v1/models", None, _only_model)
        self._check_fingerprint(card.fingerprint)
        self._limits = card.limits
        return card

    def usage(self) -> UsageReply:
        """Teacher tokens of each job of this key, as the service counts them.

        Raises:
            TeacherError: see the tree at the top of this file.

        """
        return self._connection.call("GET", "/v1/usage", None, lambda content: parse(UsageReply, content))

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
        workers: int = WORKERS,
    ) -> Iterator[ScoredSet]:
        """Yield each set with its numbers, in order, with several requests on their way at once.

        ``alpha`` is the weight that the selection probability is to have in the reward: at 0 the multiple-choice
        questions are not asked, and ``selection_probability`` is None. ``sets`` is read no further ahead than the
        requests on their way need.

        Raises:
            TeacherError: see the tree at the top of this file.

        """
        if alpha == 0:
            return self._stream("/v1/likelihood", LikelihoodReply, scored_sets, sets, workers, truncate=truncate)
        options = {"form": form, "orders": orders, "truncate": truncate}
        return self._stream("/v1/score", ScoreReply, scored_sets, sets, workers, **options)

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
        **options: Any,
    ) -> Iterator[Answer]:
        def ask(request: list[SampledSet]) -> list[Answer]:
            def understand(content: bytes) -> tuple[Reply, list[Answer]]:
                reply = parse(reply_model, content)
                return reply, join(request, reply)

            body = orjson.dumps({"sets": [each.model_dump(exclude_none=True) for each in request], **options})
            reply, answers = self._connection.call("POST", path, body, understand, request)
            self._check_fingerprint(reply.teacher.fingerprint)
            with self._lock:
                self.tokens_scored += reply.usage.total_tokens
            return answers

        with closing(ordered_map(ask, split(sets, self._limits), workers)) as replies:
            for answers in replies:
                yield from answers

    def _check_fingerprint(self, fingerprint: str) -> None:
        with self._lock:
            if self.fingerprint is None:
                self.fingerprint = fingerprint
            if fingerprint != self.fingerprint:
                raise TeacherChanged(
                    f"the teacher at {self._connection.url} changed from {self.fingerprint} to {fingerprint}; "
                    "bring the first one back, or begin a new output"
                )


def _only_model(content: bytes) -> ModelCard:
    models = parse(ModelList, content).data
    if len(models) != 1:
        raise Untrustworthy(f"it lists {len(models)} models where there should be one")
    return models[0]
