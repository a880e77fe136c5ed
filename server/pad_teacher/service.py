"""The service's life: starting, ready, draining or failed."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import structlog

from pad_teacher.admission.batcher import Batcher
from pad_teacher.admission.budgets import Clocks
from pad_teacher.admission.engine_runner import EngineRunner
from pad_teacher.admission.queue import AdmissionQueue
from pad_teacher.admission.usage import UsageBook
from pad_teacher.cache.reuse import ScoreReuse
from pad_teacher.engines.base import Runtime
from pad_teacher.errors import Refusal, TeacherError
from pad_teacher.runtime.metrics import Metrics
from pad_teacher.runtime.reading_thread import ReadingThread
from pad_teacher.scoring.teacher import AnyTeacher
from pad_teacher.settings import ServeSettings
from pad_wire import Health

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a service that exist once its teacher is loaded."""

    teacher: AnyTeacher
    batcher: Batcher
    reuse: ScoreReuse


def shutting_down() -> Refusal:
    """The refusal of new work, and of work that is not done in the drain time."""
    return Refusal("not_ready", "the teacher is shutting down", retry_after_s=5)


class Service:
    """One teacher being served. Lives on the event loop.

    - ``load`` runs in a thread, and returns only after the golden check has passed.
    - ``running`` is set once, when the teacher is loaded, and never unset.
    - ``failed`` is final; ``draining`` is left only for ``failed``.
    - ``failure`` is the cause in full, for the operator; clients see ``reason``.

    Args:
        settings: what the operator chose.
        load: makes the teacher.
        clocks: by which budgets and quotas are counted.

    Raises:
        UsageFileError: if the settings name a folder in which usage cannot be kept.
    """

    def __init__(self, settings: ServeSettings, load: Callable[[], AnyTeacher], clocks: Clocks | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.usage = UsageBook(self.metrics, settings.data, clocks)
        self.reading = ReadingThread()
        self.started = int(time.time())
        self._began = time.monotonic()
        self.status: Literal["starting", "ready", "draining", "failed"] = "starting"
        self.reason: str | None = "loading the model"
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.loading = False  # in a thread that cannot be stopped
        self._load = load
        self._running: Running | None = None
        self._starting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load; the health routes answer meanwhile."""
        self._starting = asyncio.create_task(self._start(), name="load")
        self.usage.start()

    async def stop(self) -> None:
        """Refuse new work and close the engine. By now all requests under way have been answered."""
        self.drain()
        if self._starting:
            self._starting.cancel()
        if running := self._running:
            running.teacher.engine.interrupt()  # an upstream may take longer than the drain
            await running.batcher.close()
        await self.usage.close()
        if running:
            await self.reading.run(running.reuse.close)
            await asyncio.to_thread(running.teacher.engine.close)
        self.reading.close()

    def drain(self) -> None:
        """Stop being ready, so that nothing new is sent here."""
        if self.status != "failed":
            self.status, self.reason = "draining", "the service is shutting down"
        self.metrics.ready.set(0)

    @property
    def running(self) -> Running:
        """The parts of a service that exist once its teacher is loaded.

        Raises:
            Refusal: ``not_ready`` or ``engine_failed``.
        """
        self.refuse_if_failed()
        if self._running is None:
            raise Refusal("not_ready", "the teacher is starting", retry_after_s=2)
        return self._running

    def refuse_if_failed(self) -> None:
        """Refuse all work once the teacher has failed.

        Raises:
            Refusal: ``engine_failed``.
        """
        if self.status == "failed":
            raise Refusal("engine_failed", f"the teacher has failed: {self.reason}")

    def refuse_if_draining(self) -> None:
        """Refuse new work while the service shuts down.

        Raises:
            Refusal: ``not_ready``.
        """
        if self.is_draining:
            raise shutting_down()

    @property
    def is_draining(self) -> bool:
        """Whether the service shuts down."""
        return self.status == "draining"

    @property
    def is_loaded(self) -> bool:
        """Whether the teacher is loaded, so that ``running`` has its parts."""
        return self._running is not None

    @property
    def uptime_seconds(self) -> float:
        """Time since the process began to serve."""
        return time.monotonic() - self._began

    def health(self) -> Health:
        """Whether the service is ready, and if not, why."""
        return Health(status=self.status, reason=self.reason)

    async def _start(self) -> None:
        try:
            teacher = await asyncio.to_thread(self._load_in_thread)
            scorer = f"{teacher.id.fingerprint} {teacher.engine.name}"
            reuse = await self.reading.run(
                ScoreReuse, scorer, self.metrics, self.settings.data, self.settings.cache_bytes
            )
        except Exception as error:  # noqa: BLE001 - any error that stops the model from loading is reported in one line
            self._fail(error)
            return
        self._running = Running(teacher, self._batcher(teacher.engine, reuse), reuse)
        if self.status != "starting":
            return
        self.status, self.reason = "ready", None
        self.metrics.ready.set(1)
        log.info("ready", **teacher.id.model_dump(), dtype=getattr(teacher.engine, "dtype", None))

    def _batcher(self, engine: Runtime, reuse: ScoreReuse) -> Batcher:
        runner = EngineRunner(engine, self.metrics)
        queue = AdmissionQueue(
            self.usage.budgets,
            self.metrics,
            max_batch_tokens=self.settings.max_batch_tokens if engine.mixes else 1,
            max_queued_tokens=self.settings.max_queued_tokens,
            seconds_for=runner.seconds_for,
        )
        return Batcher(queue, runner, keep=partial(self.reading.run_later, reuse.keep), on_failure=self._fail)

    def _load_in_thread(self) -> AnyTeacher:
        self.loading = True
        try:
            return self._load()
        finally:
            self.loading = False

    def _fail(self, error: BaseException) -> None:
        # The health route is open to all, so it names only the error's class. The log has the message.
        self.status, self.reason = "failed", type(error).__name__
        self.metrics.ready.set(0)
        self.failure = " ".join(f"{self.reason}: {error}".split())
        foreseen = isinstance(error, TeacherError)  # then its message is enough
        log.error("failed", reason=self.failure, exc_info=None if foreseen else error)
        self.on_failure()
