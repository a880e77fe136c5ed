"""Usage: teacher tokens of each job since the start, and of each key's UTC day across restarts."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from pad_teacher.admission.budgets import DAY_SECONDS, Budgets, Clocks, day_of
from pad_teacher.admission.client import Client
from pad_teacher.admission.usage_file import UsageFile, UsageFileError
from pad_teacher.runtime.metrics import OTHER_JOBS, Metrics
from pad_wire import JobUsage, Usage, UsageReply

log = structlog.get_logger()

REPEAT_SECONDS = 60.0  # between two log entries about the same error of the file
MAX_JOBS = 10_000  # of each key; its further jobs are added up under "(other jobs)"
SAVE_SECONDS = 1.0  # between two writes of the day's use: a crash forgets at most this long


class UsageBook:
    """Teacher tokens used by each job and each key. Lives on the event loop.

    - ``budgets`` counts tokens when they are queued; ``count`` counts them when their request is answered.
    - With a ``folder`` the use of each day outlives this process; a crash loses at most ``SAVE_SECONDS`` of it.
    - A write that fails is logged and tried again; nothing is lost meanwhile.

    Raises:
        UsageFileError: if usage cannot be kept in ``folder``.
    """

    def __init__(self, metrics: Metrics, folder: Path | None, clocks: Clocks | None = None) -> None:
        clocks = clocks or Clocks()
        self._metrics = metrics
        self._file = UsageFile(folder, day_of(clocks.wall() - DAY_SECONDS)) if folder else None
        self._saved: dict[tuple[str, str], int] = {}
        self._said: tuple[str, float] = "", 0.0  # the error that was logged last, and when
        self._closed = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None
        self._jobs: dict[Client, Counter[str]] = {}
        self.budgets = Budgets(self._file.used if self._file else None, clocks)
        self._named: Counter[str] = Counter()  # jobs of each key
        self.tokens = 0  # of all keys and jobs since the start

    def count(self, client: Client, usage: Usage) -> None:
        """Add one answered request to its job."""
        if client not in self._jobs:
            if self._named[client.key] >= MAX_JOBS:
                client = Client(client.key, OTHER_JOBS)
            self._named[client.key] += client not in self._jobs
        counted = self._jobs.setdefault(client, Counter())
        counted["requests"] += 1
        self.tokens += usage.total_tokens
        counted.update(usage.model_dump(exclude_none=True))
        self._metrics.job(client.key, client.job, usage.total_tokens)
        for kind in ("prompt", "response", "question"):
            self._metrics.tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens"))

    def reply_for(self, asking: Client) -> Callable[[], UsageReply]:
        """Usage of the asking key. Returns a callable, because summing up to 10,000 jobs belongs in a thread."""
        counts = list(self._jobs.items())
        key = self.budgets.usage(asking.key, asking.limits)

        def reply() -> UsageReply:
            fields = set(JobUsage.model_fields) - {"job"}
            jobs = [
                JobUsage(job=client.job, **{field: counted[field] for field in fields})
                for client, counted in counts
                if client.key == asking.key
            ]
            return UsageReply(key=key, jobs=jobs)

        return reply

    def start(self) -> None:
        """Begin to write the day's use to the file, every ``SAVE_SECONDS``."""
        if self._file:
            self._saving = asyncio.create_task(self._keep_saving(self._file), name="save usage")

    async def close(self) -> None:
        """Write the rest."""
        self._closed.set()
        if self._saving:
            await self._saving

    async def _keep_saving(self, file: UsageFile) -> None:
        # Ended by an event: to cancel it during a write would lose what that write does not get to the file.
        while not self._closed.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), SAVE_SECONDS)
            await self._save(file)

    async def _save(self, file: UsageFile) -> None:
        totals = self.budgets.totals()
        if totals == self._saved and not file.is_another:
            return
        try:
            await asyncio.to_thread(file.write, totals)
            self._saved = totals
        except UsageFileError as error:
            reason, now = str(error), time.monotonic()
            if reason != self._said[0] or now - self._said[1] > REPEAT_SECONDS:
                self._said = reason, now
                log.error("usage not saved: it is kept in memory and tried again", reason=reason)
