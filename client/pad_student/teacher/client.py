"""``Teacher``: a client of the teacher service. It retries a reply that cannot be trusted, and never returns one.

``teacher.errors`` draws the tree of its errors.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Unpack

from pad_student.teacher.errors import (
    TeacherChanged,
    TeacherError,
    TeacherNonsense,
    TeacherRefused,
    TeachersDiffer,
    TeacherUnreachable,
)
from pad_student.teacher.options import ScoreFields, ScoreOptions
from pad_student.teacher.requests.cutting import SETS_PER_REQUEST
from pad_student.teacher.requests.refusals import Refusals
from pad_student.teacher.requests.routes import SELECTION
from pad_student.teacher.session import TeacherSession
from pad_wire import Form, Orders, ScoredSet
from pad_wire.given import GivenSet, sets_of
from pad_wire.scoring import SelectionSet
from pad_wire.token_logprobs import USUAL_TOP

__all__ = [
    "Teacher",
    "TeacherChanged",
    "TeacherError",
    "TeacherNonsense",
    "TeacherRefused",
    "TeacherUnreachable",
    "TeachersDiffer",
]

WORKERS = 4  # concurrent requests to each replica, so that the teacher's batcher stays full


class Teacher(TeacherSession):
    """A client of one teacher, in one or more replicas; thread-safe, and a context manager that closes connections.

    Invariants:
        - All numbers come from one ``fingerprint``: the first one seen, or the pinned one.
        - Replicas share the work. One that fails gets none until it answers again, and the others get its work.
        - ``tokens_scored`` never falls.

    Args:
        url: of the service, as in ``http://127.0.0.1:8010``, or of each replica.
        key: the service's key, if it asks for one.
        job: the name that the service counts this work under.
        timeout: seconds for one reply; a request of several sets that takes longer is halved.
        patience: seconds for one request with all of its retries.
        fingerprint: the teacher that a continued run began with.
        transport: an httpx transport in the place of the network.
        reference: of the service, or of each replica, that holds the model which the teacher was aligned from, if
            the teacher's does not hold it too.
        reference_key: the key of that service; by default it is asked with ``key``.
        reference_fingerprint: the reference that a continued run began with.

    Raises:
        TeacherUnreachable: if ``url`` is not an HTTP address, or empty.
        TeacherRefused: for a key or a job that no HTTP header can carry.
    """

    def score(
        self, sets: Iterable[GivenSet], options: ScoreOptions | None = None, **fields: Unpack[ScoreFields]
    ) -> list[ScoredSet]:
        """Likelihoods and selection probabilities of every response; see ``score_stream``."""
        return list(self.score_stream(sets, options, **fields))

    def score_stream(
        self,
        sets: Iterable[GivenSet],
        options: ScoreOptions | None = None,
        *,
        refusals: Refusals | None = None,
        workers: int = WORKERS,
        sets_per_request: int = SETS_PER_REQUEST,
        **fields: Unpack[ScoreFields],
    ) -> Iterator[ScoredSet]:
        """Yield each set with its numbers, in order, while several requests are on their way.

        Args:
            sets: in any shape of ``set_of``, those without an id under their places; read no further ahead than the
                requests on their way need.
            options: how the sets are scored.
            refusals: leaves out refused sets, and counts them; by default the first one is raised.
            workers: concurrent requests to each replica.
            sets_per_request: sets in each request but the last, if the service takes as many. A full request is sent
                before the next set is read.
            fields: options by name, as in ``alpha=0.8``, which gives each response its ``reward``.

        Raises:
            NoSet: for a value that is no response set.
            TeacherError: if there was no usable answer.
        """
        options = replace(options or ScoreOptions(), **fields)
        ask = self._stream.scoring(options, refusals or Refusals())
        return self._stream.run(ask, sets_of(sets), workers, options, sets_per_request)

    def likelihood(
        self, sets: Iterable[GivenSet], *, truncate: bool = False, unconditional: bool = False
    ) -> list[ScoredSet]:
        """Log-likelihoods alone: ``selection_probability`` and ``label_mass`` are None; see ``ScoreOptions``."""
        return list(self.score_stream(sets, alpha=0, truncate=truncate, unconditional=unconditional))

    def token_logprobs(
        self, sets: Iterable[GivenSet], *, top: int = USUAL_TOP, **fields: Unpack[ScoreFields]
    ) -> list[ScoredSet]:
        """The distribution at each scored token, in ``token_tables``: its ``top`` likeliest tokens, and the rest.

        ``storage.token_tables.decoded`` reads them. With ``reference=True`` they have the numbers of the teacher's
        reference at the same tokens too. Both need numpy and safetensors, which ``pad-service[client]`` installs.

        Raises:
            TeacherError: if there was no usable answer.
        """
        return list(self.score_stream(sets, ScoreOptions(token_top=top), **fields))

    def selection(
        self,
        sets: Iterable[GivenSet],
        *,
        form: Form = "listwise",
        orders: Orders = "cyclic",
        truncate: bool = False,
        distinct: bool = True,
        workers: int = WORKERS,
    ) -> Iterator[SelectionSet]:
        """Yield the selection probabilities of each set's responses, in order; see ``ScoreOptions``.

        Raises:
            TeacherError: if there was no usable answer.
        """
        options = ScoreOptions(form=form, orders=orders, truncate=truncate, distinct=distinct)
        ask = partial(self._stream.ask, SELECTION, options.of_selection)
        return self._stream.run(ask, sets_of(sets), workers, options)
