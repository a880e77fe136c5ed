"""What ``/metrics`` shows, in a registry of its own so that several services fit one process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
        self.queued_tokens = Gauge("queued_tokens", "Teacher tokens that wait for the engine", **own)
        self.batch_tokens = Histogram("batch_tokens", "Tokens of a batch", buckets=_TOKENS, **own)
        self.batch_seconds = Histogram("batch_seconds", "Time of a batch in the engine", buckets=_SECONDS, **own)
        self.label_mass = Histogram(
            "label_mass",
            "Probability on option letters; low means the selection signal is noise",
            buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0),
            **own,
        )
        self.cache_hits = Counter("cache_hits", "Rows whose scores were in the cache", **own)
        self.cache_misses = Counter("cache_misses", "Rows whose scores were not", **own)
        self.cache_bytes = Gauge("cache_bytes", "Size of the score cache", **own)
        self.shared_in_flight = Counter("shared_in_flight", "Units of work that others waited for already", **own)
        self.ready = Gauge("ready", "1 while the teacher is ready to score", **own)

    def batch(self, tokens: int, seconds: float) -> None:
        """Record one batch that the engine ran."""
        self.batch_tokens.observe(tokens)
        self.batch_seconds.observe(seconds)
