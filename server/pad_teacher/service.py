"""The service's life: starting, ready, draining or failed; and what it has scored for whom."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Literal, TypeVar

import structlog

from pad_teacher.admission.batcher import Batcher
from pad_teacher.admission.budgets import Budgets, day_of
from pad_teacher.admission.client import Client
from pad_teacher.admission.engine_runner import EngineRunner
from pad_teacher.admission.queue import AdmissionQueue
from pad_teacher.admission.usage_file import UsageFile, UsageFileError
from pad_teacher.cache.in_flight import Unit
from pad_teacher.cache.reuse import ScoreReuse
from pad_teacher.errors import Refusal, TeacherError
from pad_teacher.runtime.metrics import OTHER_JOBS, Metrics
from pad_teacher.scoring.questions import MAX_ORDERS
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.settings import ServeSettings
from pad_wire import Health, JobUsage, Limits, Usage, UsageReply
from pad_wire.scoring import MAX_SETS
from pad_wire.sets import MAX_RESPONSES

log = structlog.get_logger()

T = TypeVar("T")

MAX_BODIES = 16  # of the largest size, held in memory at once
MAX_JOBS = 10_000  # usage of more jobs than this is added up under "(other jobs)"
COLLECT_SECONDS = 30.0  # between two looks for garbage, while no thread runs
SAVE_SECONDS = 1.0  # between two writes of the day's use: what a crash forgets


class Service:
    """One teacher being served. ``load`` runs in a thread and returns only once the golden score has passed.

    Raises:
        UsageFileError: where the settings name a folder in which usage cannot be kept.
    """

    def __init__(self, settings: ServeSettings, load: Callable[[], Teacher]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.started = int(time.time())
        self.status: Literal["starting", "ready", "draining", "failed"] = "starting"
        self.reason: str | None = "loading the model"
        # One thread: a Hugging Face tokenizer is not made to be called from two at once.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self.on_failure: Callable[[], None] = lambda: None
        self.failure: str | None = None  # in full, for whoever runs the service
        self.loading = False  # in a thread that cannot be stopped
        self._load = load
        self._teacher: Teacher | None = None
        self._reuse: ScoreReuse | None = None
        self._batcher: Batcher | None = None
        self._body_bytes = 0
        self._usage: dict[Client, Counter[str]] = {}
        self._usage_file = UsageFile(settings.data) if settings.data else None
        self.budgets = Budgets(self._usage_file.used(day_of(time.time())) if self._usage_file else None)
        self._starting: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._collecting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load; the service answers health routes meanwhile."""
        self._starting = asyncio.create_task(self._start(), name="load")
        self._collecting = asyncio.create_task(self._collect(), name="collect garbage")
        if self._usage_file:
            self._saving = asyncio.create_task(self._save(self._usage_file), name="save usage")

    async def stop(self) -> None:
        """Refuse new work and let go of the engine; requests under way have been answered by now."""
        self.drain()
        if self._starting:
            self._starting.cancel()
        if self._collecting:
            self._collecting.cancel()
        if self._batcher:
            await self._batcher.close()
        if self._saving and self._usage_file:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
            await self._save_once(self._usage_file)
        if self._reuse:
            await self.off_loop(self._reuse.close)
        if self._teacher:
            await asyncio.to_thread(self._teacher.engine.close)
        self._reading.shutdown(wait=False, cancel_futures=True)

    def drain(self) -> None:
        """Stop being ready, so that nothing new is sent here."""
        if self.status != "failed":
            self.status, self.reason = "draining", "the service is shutting down"
        self.metrics.ready.set(0)

    @property
    def teacher(self) -> Teacher:
        """The teacher.

        Raises:
            Refusal: ``not_ready`` or ``engine_failed``.
        """
        if self.status == "failed":
            raise Refusal("engine_failed", f"the teacher has failed: {self.reason}")
        if self._teacher is None or self.status == "starting":
            raise Refusal("not_ready", "the teacher is starting", retry_after_s=2)
        return self._teacher

    @property
    def batcher(self) -> Batcher:
        """Where work is queued.

        Raises:
            Refusal: ``not_ready`` or ``engine_failed``.
        """
        if self.status == "draining":
            raise Refusal("not_ready", "the teacher is shutting down", retry_after_s=5)
        if self._batcher is None:
            raise Refusal("not_ready", "the teacher is starting", retry_after_s=2)
        return self._batcher

    @property
    def reuse(self) -> ScoreReuse:
        """What need not be computed again.

        Raises:
            Refusal: ``not_ready``.
        """
        if self._reuse is None:
            raise Refusal("not_ready", "the teacher is starting", retry_after_s=2)
        return self._reuse

    def health(self) -> Health:
        """Whether the service is ready, and if not, why."""
        return Health(status=self.status, reason=self.reason)

    def limits(self) -> Limits:
        """What one request may hold."""
        return Limits(
            max_body_bytes=self.settings.max_body_bytes,
            max_sets=MAX_SETS,
            max_responses=MAX_RESPONSES,
            max_options=len(self.teacher.letter_ids),
            max_orders=MAX_ORDERS,
            max_context_tokens=self.teacher.engine.max_context_tokens,
            max_queued_tokens=self.settings.max_queued_tokens,
        )

    @contextmanager
    def body_memory(self, size: int) -> Iterator[None]:
        """Room for one request's body, from its first byte to its result.

        Raises:
            Refusal: ``overloaded``, where other requests hold all of it.
        """
        if self._body_bytes + size > MAX_BODIES * self.settings.max_body_bytes:
            raise Refusal("overloaded", "too many large requests at once", retry_after_s=1)
        self._body_bytes += size
        try:
            yield
        finally:
            self._body_bytes -= size

    def count(self, client: Client, usage: Usage) -> None:
        """Add a served request to its job's usage."""
        if client not in self._usage and len(self._usage) >= MAX_JOBS:
            client = Client(client.key, OTHER_JOBS)
        counted = self._usage.setdefault(client, Counter())
        counted["requests"] += 1
        counted.update(usage.model_dump())
        self.metrics.job(client.key, client.job, usage.total_tokens)
        for kind in ("prompt", "response", "question"):
            self.metrics.tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens"))

    def usage_of(self, asking: Client) -> Callable[[], UsageReply]:
        """Limits of the key that asks and tokens of its jobs, added up by the returned call: in a thread, as many."""
        counts = list(self._usage.items())
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

    async def off_loop(self, call: Callable[[], T]) -> T:
        """What ``call`` returns, from the thread that reads requests and words replies."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, call)

    def let_go(self, drop: Callable[[], object]) -> None:
        """Call ``drop``, or anything that nobody waits for, in that thread some time."""
        with suppress(RuntimeError):  # it is shutting down, and all is let go of anyway
            self._reading.submit(drop)

    async def _start(self) -> None:
        try:
            teacher = await asyncio.to_thread(self._load_in_thread)
            settings = self.settings
            self._reuse = await self.off_loop(
                lambda: ScoreReuse(
                    f"{teacher.id.fingerprint} {teacher.engine.name}",
                    self.metrics,
                    settings.data,
                    settings.cache_bytes,
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever stops the model from loading is reported in one line
            self._fail(error)
            return
        self._teacher = teacher
        runner = EngineRunner(teacher.engine, self.metrics)
        queue = AdmissionQueue(
            self.budgets,
            self.metrics,
            max_batch_tokens=settings.max_batch_tokens,
            max_queued_tokens=settings.max_queued_tokens,
            seconds_for=runner.seconds_for,
        )
        self._batcher = Batcher(queue, runner, keep=self._keep, on_failure=self._fail)
        if self.status != "starting":
            return
        self.status, self.reason = "ready", None
        self.metrics.ready.set(1)
        log.info("ready", **teacher.id.model_dump(), dtype=teacher.engine.dtype)

    def _keep(self, units: list[Unit]) -> None:
        self.let_go(partial(self.reuse.keep, units))

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            if not self._body_bytes:  # with a large request under way no thread would run for a tenth of a second
                self.let_go(gc.collect)  # behind what is still being let go of

    async def _save(self, usage_file: UsageFile) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self._save_once(usage_file)

    async def _save_once(self, usage_file: UsageFile) -> None:
        changes = self.budgets.unsaved()
        try:
            if changes:
                await asyncio.to_thread(usage_file.add, changes)
        except UsageFileError as error:
            self.budgets.save_later(changes)
            log.error("usage not saved: it is kept in memory and tried again", reason=str(error))

    def _load_in_thread(self) -> Teacher:
        self.loading = True
        try:
            return self._load()
        finally:
            self.loading = False

    def _fail(self, error: BaseException) -> None:
        # The health route is open to all: the class says enough there, and the log has the rest.
        self.status, self.reason = "failed", type(error).__name__
        self.metrics.ready.set(0)
        self.failure = " ".join(f"{self.reason}: {error}".split())
        foreseen = isinstance(error, TeacherError)  # its message is enough
        log.error("failed", reason=self.failure, exc_info=None if foreseen else error)
        self.on_failure()
