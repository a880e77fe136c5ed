"""``Teacher``: a client of the teacher service. It retries a reply that cannot be trusted, and never returns one.

``teacher.errors`` draws the tree of its errors.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Unpack

from pad_student.teacher.connection import Call, Connection
from pad_student.teacher.errors import (
    TeacherChanged,
    TeacherError,
    TeacherNonsense,
    TeacherRefused,
    TeachersDiffer,
    TeacherUnreachable,
)
from pad_student.teacher.failover import Replicas
from pad_student.teacher.fingerprint import FingerprintGuard
from pad_student.teacher.http import Transport
from pad_student.teacher.options import ScoreFields, ScoreOptions
from pad_student.teacher.replies import added_usage, tightest_limits
from pad_student.teacher.requests import SETS_PER_REQUEST
from pad_student.teacher.routes import SELECTION
from pad_student.teacher.streaming import SetStream, models_call
from pad_wire import Form, ModelCard, Orders, SampledSet, ScoredSet, UsageReply
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
WORKERS = 4  # concurrent requests to each replica, so that the teacher's batcher stays full


class Teacher:
    """A client of one teacher, in one or more replicas; thread-safe, and a context manager that closes connections.

    Invariants:
        - All numbers come from one ``fingerprint``: the first one seen, or the pinned one.
        - Replicas share the work. One that fails gets none until it answers again, and the others get its work.
        - ``tokens_scored`` never falls.

    Args:
        url: of the service, as in ``http://127.0.0.1:8010``, or of each replica.
        key: the service's key, if it asks for one.
        job: the name that the service counts this work under.
        timeout: seconds for one reply; the service gives up on a request after the same time.
        patience: seconds for one request with all of its retries.
        fingerprint: the teacher that a continued run began with.
        transport: an httpx transport in the place of the network.

    Raises:
        TeacherUnreachable: if ``url`` is not an HTTP address, or empty.
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
        urls = dict.fromkeys([url] if isinstance(url, str) else url)
        if not urls:
            raise TeacherUnreachable("no teacher's URL is given; give one as in http://127.0.0.1:8010")
        connections = [Connection(each, key, job, timeout, transport) for each in urls]
        self._guard = FingerprintGuard(fingerprint)
        self._replicas = Replicas(connections, partial(models_call, self._guard), patience)
        self._stream = SetStream(self._replicas, self._guard)

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; requests that are on their way fail."""
        self._replicas.close()

    @property
    def fingerprint(self) -> str | None:
        """The teacher's fingerprint; None before it is known."""
        return self._guard.fingerprint

    @property
    def tokens_scored(self) -> int:
        """Teacher tokens of all replies so far."""
        return self._stream.tokens_scored

    @property
    def busy_seconds(self) -> float:
        """Seconds so far in which sets were on their way."""
        return self._stream.busy.seconds

    def pin(self, fingerprint: str) -> None:
        """Accept scores of this teacher alone.

        Raises:
            TeacherChanged: if another one has answered already.
        """
        self._guard.pin(fingerprint)

    def model(self) -> ModelCard:
        """The model, its fingerprint, and the limits that every answering replica keeps; later requests respect them.

        Raises:
            TeacherError: if there was no usable answer.
        """
        cards = self._replicas.ask_each(models_call(self._guard))
        self._stream.limits = tightest_limits([card.limits for card in cards])
        return cards[0].model_copy(update={"limits": self._stream.limits})

    def usage(self) -> UsageReply:
        """Teacher tokens of each job of this key as the service counts them, summed over the answering replicas.

        Raises:
            TeacherError: if there was no usable answer.
        """
        return added_usage(self._replicas.ask_each(Call("/v1/usage", lambda content, _: parse(UsageReply, content))))

    def score(
        self, sets: Iterable[SampledSet], options: ScoreOptions | None = None, **fields: Unpack[ScoreFields]
    ) -> list[ScoredSet]:
        """Likelihoods and selection probabilities of every response; see ``score_stream``."""
        return list(self.score_stream(sets, options, **fields))

    def score_stream(
        self,
        sets: Iterable[SampledSet],
        options: ScoreOptions | None = None,
        *,
        skip_too_long: bool = False,
        workers: int = WORKERS,
        sets_per_request: int = SETS_PER_REQUEST,
        **fields: Unpack[ScoreFields],
    ) -> Iterator[ScoredSet]:
        """Yield each set with its numbers, in order, while several requests are on their way.

        Args:
            sets: read no further ahead than the requests on their way need.
            options: how the sets are scored.
            skip_too_long: leave out sets that exceed the teacher's context, each with a line in the log.
            workers: concurrent requests to each replica.
            sets_per_request: sets in each request but the last, if the service takes as many. A full request is sent
                before the next set is read.
            fields: options by name, as in ``alpha=0.8``; see ``ScoreOptions``.

        Raises:
            TeacherError: if there was no usable answer.
        """
        options = replace(options or ScoreOptions(), **fields)
        return self._stream.run(self._stream.scoring(options, skip_too_long), sets, workers, sets_per_request)

    def likelihood(
        self, sets: Iterable[SampledSet], *, truncate: bool = False, unconditional: bool = False
    ) -> list[ScoredSet]:
        """Log-likelihoods alone: ``selection_probability`` and ``label_mass`` are None; see ``ScoreOptions``."""
        return list(self.score_stream(sets, alpha=0, truncate=truncate, unconditional=unconditional))

    def selection(
        self,
        sets: Iterable[SampledSet],
        *,
        form: Form = "listwise",
        orders: Orders = "cyclic",
        truncate: bool = False,
        workers: int = WORKERS,
    ) -> Iterator[SelectionSet]:
        """Yield the selection probabilities of each set's responses, in order.

        Raises:
            TeacherError: if there was no usable answer.
        """
        options = ScoreOptions(form=form, orders=orders, truncate=truncate)
        return self._stream.run(partial(self._stream.ask, SELECTION, options.of_selection), sets, workers)
