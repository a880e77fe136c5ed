"""The client that sends a request: its key, its job, and what the key may use."""

from dataclasses import dataclass, field

from pad_teacher.admission.keys import NO_LIMITS, KeyLimits


@dataclass(frozen=True, slots=True)
class Client:
    """The name of a key (empty if the service has no keys), the request's job, and what the key may use and see."""

    key: str
    job: str
    limits: KeyLimits = field(default=NO_LIMITS, compare=False)
    sees_metrics: bool = field(default=True, compare=False)  # of all keys and jobs

    @property
    def owner(self) -> str:
        """The name under which its requests hold room in the queue: the key, or the job if there are no keys."""
        return self.key or self.job
