"""One call until a replica answers it: immediate failover, then retries with growing waits, within a time limit."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import stamina
import stamina.instrumentation

from pad_student.teacher.errors import TeacherRefused
from pad_student.teacher.network.connection import Call, Connection, RetryLater
from pad_student.teacher.replicas.pool import Lease, Pool

FIRST_ATTEMPTS = 6  # about 20 s for a teacher that has never answered, whose address may be wrong
WAIT_INITIAL, WAIT_MAX = 0.5, 20.0  # seconds
PROBE_TIMEOUT = 10.0  # seconds; a running service answers a probe in milliseconds, even under load

Result = TypeVar("Result")

log = logging.getLogger(__name__)

# By default stamina writes each retry to stdout too, which is for results. A program may set its hooks after this.
stamina.instrumentation.set_on_retry_hooks([])


class Replicas:
    """The replicas of one teacher; thread-safe.

    Invariants:
        - An attempt goes from replica to replica, without a wait, while any can be asked.
        - Only if none can be asked does a wait follow, and one attempt is used up. So if every replica is down, the
          client backs off and retries as with a single server.
        - A replica that was down answers a probe before it gets work.
        - A refusal ends the call: no other replica is asked. So does a timeout of a request with several sets, which
          its sender divides.

    Args:
        connections: one to each replica.
        probe: makes the call that a replica must answer before it gets work.
        patience: seconds for one call with all of its retries.
    """

    def __init__(self, connections: Sequence[Connection], probe: Callable[[], Call[Any]], patience: float) -> None:
        self._connections = connections
        self._probe = probe
        self._patience = patience
        self._closed = threading.Event()
        self._pool = Pool(len(connections), time.monotonic, lambda: random.uniform(0.75, 1.25))  # noqa: S311

    @property
    def size(self) -> int:
        """The number of replicas, whether they answer or not."""
        return len(self._connections)

    def close(self) -> None:
        """Close all connections; calls that are on their way fail and are not retried."""
        self._closed.set()
        for each in self._connections:
            each.close()

    def ask(self, call: Call[Result]) -> Result:
        """Ask until there is an answer.

        Raises:
            TeacherError: if there was none in time, or a refusal; see ``teacher.errors``.
        """
        end = time.monotonic() + self._patience
        attempts = stamina.retry_context(
            on=self._wait_until(end),
            attempts=None,  # a teacher that says when to ask again may say so for minutes while it starts
            timeout=self._patience,
            wait_initial=WAIT_INITIAL,
            wait_max=WAIT_MAX,
        )
        try:
            for attempt in attempts:
                with attempt:
                    try:
                        return self._ask_any(call, end)
                    except RetryLater as failure:
                        if attempt.num >= self._attempts_for(failure) or _is_divided(failure, call):
                            raise failure.error from failure.__cause__
                        raise
        except RetryLater as failure:
            raise failure.error from failure.__cause__
        raise AssertionError("a retry context makes one attempt at least")

    def ask_each(self, call: Call[Result]) -> list[Result]:
        """Ask every replica once, and leave out those that cannot answer now; if none can, ask until one does.

        Raises:
            TeacherError: if there was none in time, or a refusal; see ``teacher.errors``.
        """
        results: list[Result] = []
        if self.size > 1:
            for number in range(self.size):
                with suppress(RetryLater):
                    results.append(self._ask_one(call, self._pool.lend(0, number), PROBE_TIMEOUT))
        return results or [self.ask(call)]

    def _ask_any(self, call: Call[Result], end: float) -> Result:
        """Ask one replica after another, until one answers or none can be asked now."""
        work = len(call.body or b"")  # bytes, which are roughly in proportion to teacher tokens
        while True:
            lease = self._pool.lend(work)
            try:
                return self._ask_one(call, lease)
            except RetryLater as failure:
                wait = self._pool.until_another(lease.number)
                if wait > 0 or _is_divided(failure, call) or self._closed.is_set() or time.monotonic() > end:
                    raise failure.within(wait) from failure.__cause__

    def _ask_one(self, call: Call[Result], lease: Lease, most: float = math.inf) -> Result:
        connection = self._connections[lease.number]
        try:
            if lease.on_trial and call.body:
                self._probe_first(connection)
            result = connection.ask(call, most)
        except RetryLater as failure:
            if self._pool.fail(lease, failure.wait):
                log.warning("%s; it is left out until it answers again", failure)
            raise
        except TeacherRefused:
            self._pool.give_back(lease)  # the replica works, and refused
            raise
        except BaseException:
            self._pool.fail(lease)  # for example another teacher, which must not get more work
            raise
        if self._pool.give_back(lease):
            log.warning("%s is back", connection)
        return result

    def _probe_first(self, connection: Connection) -> None:
        try:
            connection.ask(self._probe(), PROBE_TIMEOUT)
        except RetryLater as failure:
            failure.slow = False  # the call itself was not tried, so it need not be divided
            raise

    def _attempts_for(self, failure: RetryLater) -> float:
        """The most attempts for a call that keeps failing in this way; patience alone ends the others."""
        known = any(each.has_answered for each in self._connections)
        return min(failure.attempts or math.inf, math.inf if known else FIRST_ATTEMPTS)

    def _wait_until(self, end: float) -> Callable[[Exception], bool | float]:
        """The retry rule: False to give up, seconds if the teacher asked for a wait, True for the default wait."""

        def wait(error: Exception) -> bool | float:
            if not isinstance(error, RetryLater) or self._closed.is_set():
                return False
            if error.wait and time.monotonic() + error.wait > end:
                return False  # the teacher asks for more time than there is
            log.warning("%s; trying again", error)
            return error.wait or True

        return wait


def _is_divided(failure: RetryLater, call: Call[Any]) -> bool:
    """Whether the sender makes smaller requests of a call that failed: the same one would be too slow again."""
    return failure.slow and len(call.sets) > 1
