"""The session with one teacher: its connections, the teacher that answers on them, and the work that was counted."""

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Self

from pad_student.teacher.checks.capabilities import card_of_both
from pad_student.teacher.checks.fingerprint import FingerprintGuard
from pad_student.teacher.checks.replies import added_usage, tightest_limits
from pad_student.teacher.errors import TeacherUnreachable
from pad_student.teacher.network.connection import Call, Connection
from pad_student.teacher.network.http import Transport
from pad_student.teacher.replicas.failover import Replicas
from pad_student.teacher.requests.streaming import SetStream, models_call
from pad_wire import ModelCard, UsageReply
from pad_wire.validation import parse

TIMEOUT = 120.0  # seconds for one reply, from first byte sent to last byte read
PATIENCE = 600.0  # seconds for one request with all its retries


class TeacherSession:
    """``Teacher`` without its questions about sets; it describes arguments and invariants. The key is never shown.

    ``role`` is how messages call the service: the session with a reference is a session of its own.
    """

    _urls: Sequence[str]
    _guard: FingerprintGuard
    _stream: SetStream

    def __repr__(self) -> str:
        known = f", fingerprint={self.fingerprint!r}" if self.fingerprint else ""
        return f"Teacher({', '.join(map(repr, self._urls))}{known}, tokens_scored={self.tokens_scored})"

    @property
    def fingerprint(self) -> str | None:
        """The teacher's fingerprint; None before it is known."""
        return self._guard.fingerprint

    @property
    def reference_fingerprint(self) -> str | None:
        """The fingerprint of the reference that is a service of its own; None before it is known, and without one."""
        return self._reference.fingerprint if self._reference else None

    @property
    def tokens_scored(self) -> int:
        """Teacher tokens of all replies so far; those that a reference reads too are counted once."""
        return self._stream.tokens_scored

    @property
    def busy_seconds(self) -> float:
        """Seconds so far in which sets were on their way."""
        return self._stream.busy.seconds

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
        reference: str | Sequence[str] | None = None,
        reference_key: str | None = None,
        reference_fingerprint: str | None = None,
        role: str = "teacher",
    ) -> None:
        urls = dict.fromkeys([url] if isinstance(url, str) else url)
        if not urls:
            raise TeacherUnreachable(f"no {role}'s URL is given; give one as in http://127.0.0.1:8010")
        connections = [Connection(each, key, job, timeout, transport, role) for each in urls]
        self._urls = [each.url for each in connections]
        self._guard = FingerprintGuard(fingerprint, role)
        self._replicas = Replicas(connections, partial(models_call, self._guard), patience)
        self._reference: TeacherSession | None = None
        if reference is not None:
            self._reference = TeacherSession(
                reference,
                reference_key or key,
                job,
                timeout=timeout,
                patience=patience,
                fingerprint=reference_fingerprint,
                transport=transport,
                role="reference",
            )
        self._stream = SetStream(self._replicas, self._guard, self._reference and self._reference._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; requests that are on their way fail."""
        self._replicas.close()
        if self._reference:
            self._reference.close()

    def pin(self, fingerprint: str, reference: str | None = None) -> None:
        """Accept scores of this teacher alone, and of this reference if that is another service.

        Raises:
            TeacherChanged: if another one has answered already.
        """
        self._guard.pin(fingerprint)
        if reference and self._reference:
            self._reference.pin(reference)

    def model(self) -> ModelCard:
        """The model, its fingerprint, and the limits that every answering replica keeps; later requests respect them.

        The card of a teacher whose reference is another service is that of both.

        Raises:
            TeacherRefused: if the two cannot work together, say for their tokenizers.
            TeacherError: if there was no usable answer.
        """
        cards = self._replicas.ask_each(models_call(self._guard))
        card = cards[0].model_copy(update={"limits": tightest_limits([each.limits for each in cards])})
        if self._reference:
            card = card_of_both(card, self._reference.model())
        self._stream.limits = card.limits
        return card

    def usage(self) -> UsageReply:
        """Teacher tokens of each job of this key as the service counts them, summed over the answering replicas.

        Raises:
            TeacherError: if there was no usable answer.
        """
        return added_usage(self._replicas.ask_each(Call("/v1/usage", lambda content, _: parse(UsageReply, content))))
