"""Load balancing over replicas: the next work goes to the one with the least outstanding work.

A replica that fails is *out* for a pause that grows (exponential backoff). It comes back by a *trial*: one lender
probes it and gives it work, and only an answer to that opens it for others. If all are out, the next lender tries the
one whose trial is due first. Nothing here knows HTTP, and nothing waits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

PAUSE_INITIAL, PAUSE_MAX = 0.5, 20.0  # seconds; doubled after each failed trial

Clock = Callable[[], float]
Jitter = Callable[[], float]


@dataclass(slots=True)
class Replica:
    """The state of one replica.

    Attributes:
        number: its place among the replicas.
        due: the time at which its next trial may begin; None while it is in, inf during a trial.
        failures: since it last answered.
        outstanding: work lent and not given back.
        lent: all work ever, so that idle replicas take turns.
    """

    number: int
    due: float | None
    failures: int = 0
    outstanding: int = 0
    lent: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """Work lent to a replica; a replica ``on_trial`` must be probed first. ``failures`` is its count at that time."""

    number: int
    work: int
    on_trial: bool
    failures: int


class Pool:
    """Decides which replica gets the next work; thread-safe.

    Invariants:
        - Every lease ends once, by ``give_back`` or ``fail``.
        - A replica that is out gets no work but its trial, and has one trial at a time.
        - Several replicas begin out with their trials due, so each is probed before its first work.
        - A single replica is never out, because no other could take its work.

    Args:
        count: number of replicas.
        clock: seconds.
        jitter: a factor for each growing pause, so that clients do not return in step.
    """

    def __init__(self, count: int, clock: Clock, jitter: Jitter) -> None:
        due = clock() if count > 1 else None
        self._replicas = [Replica(number, due) for number in range(count)]
        self._clock = clock
        self._jitter = jitter
        self._lock = Lock()

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The state of every replica, to be read only."""
        return tuple(self._replicas)

    def lend(self, work: int, number: int | None = None) -> Lease:
        """Lend ``work``, in any unit, to the best replica, or to the one with this number."""
        with self._lock:
            now = self._clock()
            candidates = self._replicas if number is None else [self._replicas[number]]
            replica = min(candidates, key=lambda each: _rank(each, now))
            lease = Lease(replica.number, work, replica.due is not None, replica.failures)
            replica.outstanding += work
            replica.lent += work
            if lease.on_trial:
                replica.due = math.inf  # one trial at a time
            return lease

    def give_back(self, lease: Lease) -> bool:
        """The replica answered; return whether that ended an outage."""
        with self._lock:
            replica = self._replicas[lease.number]
            replica.outstanding -= lease.work
            if not lease.on_trial or replica.due is None:
                return False  # an answer to work lent before an outage does not end it
            was_out = replica.failures > 0
            replica.due, replica.failures = None, 0
            return was_out

    def fail(self, lease: Lease, pause: float | None = None) -> bool:
        """The replica failed and is out, for ``pause`` seconds if given; return whether that began an outage."""
        with self._lock:
            replica = self._replicas[lease.number]
            replica.outstanding -= lease.work
            # Work lent before an outage fails with it: count one failure, not several.
            if len(self._replicas) == 1 or lease.failures != replica.failures:
                return False
            growing = min(PAUSE_MAX, PAUSE_INITIAL * 2**replica.failures) * self._jitter()
            replica.failures += 1
            replica.due = self._clock() + (growing if pause is None else pause)
            return replica.failures == 1

    def until_another(self, number: int) -> float:
        """Seconds until another replica may be asked: 0 if one is in or due, inf if there is no other."""
        with self._lock:
            now = self._clock()
            others = (each for each in self._replicas if each.number != number)
            return min((0.0 if each.due is None else max(0.0, each.due - now) for each in others), default=math.inf)


def _rank(replica: Replica, now: float) -> tuple[int, float, int]:
    """Sort key: due trials first, else they would never happen; then the least work; then the next trial."""
    if replica.due is None:
        return (1, replica.outstanding, replica.lent)
    return (0 if replica.due <= now else 2, replica.due, replica.outstanding)
