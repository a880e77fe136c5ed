"""The metrics of ``/metrics``, in a registry of their own, so that one process can have several services."""

from collections import defaultdict, deque
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pad_wire import ErrorCode

OTHER_JOBS = "(other jobs)"
MAX_JOBS = 256  # time series of tokens by job, for each key; its further jobs are added up under "(other jobs)"
RECENT_WAITS = 1000  # times in the queue that are kept for the console's quantiles

_TOKENS = (64, 256, 1024, 4096, 16384, 65536)
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)


class Metrics:
    """Counters and gauges of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry, "namespace": "pad"}
        self.requests = Counter("requests", "Requests answered", ["route", "status"], **own)
        self.request_seconds = Histogram("request_seconds", "Time to answer", ["route"], buckets=_SECONDS, **own)
        self.tokens = Counter("teacher_tokens", "Teacher tokens scored", ["kind"], **own)
        # Not "job": Prometheus has a label of that name, and would call ours "exported_job".
        self.job_tokens = Counter("job_tokens", "Teacher tokens scored for a job", ["key", "client_job"], **own)
        self.in_flight = Gauge("requests_in_flight", "Requests being answered", **own)
        self.refusals = Counter("refusals", "Requests that were refused or failed", ["reason"], **own)
        self.dropped_tokens = Counter(
            "dropped_tokens",
            "Teacher tokens given back unused: deadline, client_left or failed",
            ["reason"],
            **own,
        )
        self.queued_requests = Gauge("queued_requests", "Requests that wait for the engine", **own)
        self.queued_tokens = Gauge("queued_tokens", "Teacher tokens that wait for the engine", **own)
        self.wait_seconds = Histogram(
            "wait_seconds", "Time of a request in the queue before the engine begins it", buckets=_SECONDS, **own
        )
        self.batch_tokens = Histogram("batch_tokens", "Tokens of a batch", buckets=_TOKENS, **own)
        self.batch_seconds = Histogram("batch_seconds", "Time of a batch in the engine", buckets=_SECONDS, **own)
        self.label_mass = Histogram(
            "label_mass",
            "Probability on option letters; low means the selection signal is noise",
            buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0),
            **own,
        )
        self.sets_of_one_text = Counter(
            "sets_of_one_text", "Sets whose choice was not asked: their responses are copies of one text", **own
        )
        self.cache_hits = Counter("cache_hits", "Rows whose scores were in the cache", **own)
        self.cache_misses = Counter("cache_misses", "Rows whose scores were not in the cache", **own)
        self.cache_bytes = Gauge("cache_bytes", "Size of the score cache", **own)
        self.shared_in_flight = Counter("shared_in_flight", "Units that another request already waited for", **own)
        self.ready = Gauge("ready", "1 while the teacher is ready to score", **own)
        self.key_file_wrong = Gauge("key_file_wrong", "1 while the key file cannot be read as it should", **own)
        self.waits: deque[float] = deque(maxlen=RECENT_WAITS)
        self._jobs: defaultdict[str, set[str]] = defaultdict(set)
        # Present from the start, so that the first one shows as a rise.
        for reason in get_args(ErrorCode):
            self.refusals.labels(reason)
        for reason in ("deadline", "client_left", "failed"):
            self.dropped_tokens.labels(reason)

    def job(self, key: str, job: str, tokens: int) -> None:
        """Count tokens of a job. Each key has its own bound of time series, however many jobs other keys name."""
        named = self._jobs[key]
        if job not in named:
            if len(named) < MAX_JOBS:
                named.add(job)
            else:
                job = OTHER_JOBS
        self.job_tokens.labels(key, job).inc(tokens)

    def waited(self, seconds: float) -> None:
        """Record a request's time in the queue."""
        self.wait_seconds.observe(seconds)
        self.waits.append(seconds)

    def batch(self, tokens: int, seconds: float) -> None:
        """Record one batch that the engine ran."""
        self.batch_tokens.observe(tokens)
        self.batch_seconds.observe(seconds)


# pyright: standard
