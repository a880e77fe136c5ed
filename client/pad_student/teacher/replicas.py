"""Which of several replicas is asked next: the one with the least work on its way, and none that is out.

A replica that fails is *out* for a pause that grows. It comes back by a *trial*: one lender probes it, gives it work,
and only an answer to that lets others in. Where all are out, whoever asks makes a trial of the one due first, as one
would with a single teacher. Nothing here knows HTTP or waits.
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
    """What is known about one replica; ``due`` is when its next trial may begin, None while it is in."""

    number: int
    due: float | None
    failures: int = 0  # since it last answered
    outstanding: int = 0  # work lent and not given back
    lent: int = 0  # all work ever, so that idle replicas take turns


@dataclass(frozen=True, slots=True)
class Lease:
    """A replica's number and the work that it was lent for; a replica ``on_trial`` has to be probed first."""

    number: int
    work: int
    on_trial: bool
    failures: int


class Pool:
    """``count`` replicas; thread-safe. Every lease has to be given back, or failed, once.

    Several begin out and due at once, so that each is probed before its first work. An only one is never out: nobody
    else could take its work.

    Args:
        count: how many replicas.
        clock: seconds.
        jitter: a factor for each growing pause, so that clients do not come back in step.

    """

    def __init__(self, count: int, clock: Clock, jitter: Jitter) -> None:
        due = clock() if count > 1 else None
        self._replicas = [Replica(number, due) for number in range(count)]
        self._clock = clock
        self._jitter = jitter
        self._lock = Lock()

    def lend(self, work: int, number: int | None = None) -> Lease:
        """Choose a replica for so much work, in any unit, or take the one with this number."""
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
                return False  # what was lent before an outage does not end it
            was_out = replica.failures > 0
            replica.due, replica.failures = None, 0
            return was_out

    def fail(self, lease: Lease, pause: float | None = None) -> bool:
        """The replica failed and is out, for ``pause`` seconds if it said so; return whether that began an outage."""
        with self._lock:
            replica = self._replicas[lease.number]
            replica.outstanding -= lease.work
            # What was lent together fails together: that is one failure, not several.
            if len(self._replicas) == 1 or lease.failures != replica.failures:
                return False
            growing = min(PAUSE_MAX, PAUSE_INITIAL * 2**replica.failures) * self._jitter()
            replica.failures += 1
            replica.due = self._clock() + (growing if pause is None else pause)
            return replica.failures == 1

    def until_another(self, number: int) -> float:
        """Seconds until one that is not this one may be asked: 0 where one is in or due, inf where there is none."""
        with self._lock:
            now = self._clock()
            others = (each for each in self._replicas if each.number != number)
            return min((0.0 if each.due is None else max(0.0, each.due - now) for each in others), default=math.inf)


def _rank(replica: Replica, now: float) -> tuple[int, float, int]:
    """Due trials first, or they would never come while another is in; then the least work; then the next trial."""
    if replica.due is None:
        return (1, replica.outstanding, replica.lent)
    return (0 if replica.due <= now else 2, replica.due, replica.outstanding)
