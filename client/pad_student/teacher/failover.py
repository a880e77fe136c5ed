"""One question until a replica answers it: failover at once, retries with growing waits, within one's patience."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import stamina

from pad_student.teacher.connection import Again, Connection, Question
from pad_student.teacher.errors import TeacherRefused
from pad_student.teacher.replicas import Lease, Pool

ATTEMPTS = 30
FIRST_ATTEMPTS = 6  # some 20 s to come up for a teacher that has never answered: the address may be wrong
WAIT_INITIAL, WAIT_MAX = 0.5, 20.0  # seconds
PROBE_TIMEOUT = 10.0  # a service that is up says who it is in milliseconds, even under load

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Service:
    """The replicas of one teacher; thread-safe.

    An attempt goes from replica to replica while any can be asked; only when none can is there a wait, and an attempt
    less. So several that are all out behave as a single one does.

    Args:
        connections: one to each replica.
        probe: makes the question whose answer a replica owes before it gets work.
        patience: seconds for one question with all of its retries.

    """

    def __init__(
        self, connections: Sequence[Connection], probe: Callable[[], Question[Any]], patience: float
    ) -> None:
        self._connections = connections
        self._probe = probe
        self._patience = patience
        self._closed = threading.Event()
        self._pool = Pool(len(connections), time.monotonic, lambda: random.uniform(0.75, 1.25))  # noqa: S311

    @property
    def size(self) -> int:
        """How many replicas there are, in or out."""
        return len(self._connections)

    def close(self) -> None:
        """Close all connections; what is still on its way fails and is not retried."""
        self._closed.set()
        for each in self._connections:
            each.close()

    def ask(self, question: Question[Answer]) -> Answer:
        """Ask until there is an answer.

        Raises:
            TeacherError: see ``teacher_errors``.

        """
        end = time.monotonic() + self._patience
        attempts = stamina.retry_context(
            on=self._wait_until(end),
            attempts=ATTEMPTS,
            timeout=self._patience,
            wait_initial=WAIT_INITIAL,
            wait_max=WAIT_MAX,
        )
        try:
            for attempt in attempts:
                with attempt:
                    try:
                        return self._ask_any(question, end)
                    except Again as again:
                        if attempt.num >= self._attempts_for(again):
                            raise again.error from again.__cause__
                        raise
        except Again as again:
            raise again.error from again.__cause__
        raise AssertionError("a retry context makes one attempt at least")

    def ask_each(self, question: Question[Answer]) -> list[Answer]:
        """Ask every replica once and leave out those that cannot answer now; where none can, ask until one does.

        Raises:
            TeacherError: see ``teacher_errors``.

        """
        answers: list[Answer] = []
        if self.size > 1:
            for number in range(self.size):
                with suppress(Again):
                    answers.append(self._ask_one(question, self._pool.lend(0, number), PROBE_TIMEOUT))
        return answers or [self.ask(question)]

    def _ask_any(self, question: Question[Answer], end: float) -> Answer:
        """Ask one replica after another, until one answers or none is left to be asked now."""
        work = len(question.body or b"")  # bytes: teacher tokens are in proportion to them
        while True:
            lease = self._pool.lend(work)
            try:
                return self._ask_one(question, lease)
            except Again as again:
                wait = self._pool.until_another(lease.number)
                if wait > 0 or self._closed.is_set() or time.monotonic() > end:
                    raise again.within(wait) from again.__cause__

    def _ask_one(self, question: Question[Answer], lease: Lease, most: float = math.inf) -> Answer:
        connection = self._connections[lease.number]
        try:
            if lease.on_trial and question.body:
                connection.ask(self._probe(), PROBE_TIMEOUT)
            answer = connection.ask(question, most)
        except Again as again:
            if self._pool.fail(lease, again.wait):
                log.warning("%s; it is left out until it answers again", again)
            raise
        except TeacherRefused:
            self._pool.give_back(lease)  # it is well, and said no
            raise
        except BaseException:
            self._pool.fail(lease)  # another teacher, for one, which must not get more work
            raise
        if self._pool.give_back(lease):
            log.warning("the teacher at %s is back", connection.url)
        return answer

    def _attempts_for(self, again: Again) -> int:
        """How often a question is asked that keeps failing in this way."""
        known = any(each.has_answered for each in self._connections)
        return min(again.attempts or ATTEMPTS, ATTEMPTS if known else FIRST_ATTEMPTS)

    def _wait_until(self, end: float) -> Callable[[Exception], bool | float]:
        """Whether to try again, and after how long where the teacher says so."""

        def wait(error: Exception) -> bool | float:
            if not isinstance(error, Again) or self._closed.is_set():
                return False
            if error.wait and time.monotonic() + error.wait > end:
                return False  # the teacher asks for more time than there is
            log.warning("%s; trying again", error)
            return error.wait or True

        return wait
