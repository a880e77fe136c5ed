"""Runs batches on the engine, in threads of their own, and measures how fast it is."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pad_teacher.engines.base import Runtime
from pad_teacher.engines.queries import Answer, AnyQuery
from pad_teacher.errors import Refusal
from pad_teacher.runtime.metrics import Metrics


class EngineRunner:
    """One engine and its threads. Belongs to the event loop.

    - Each batch has a thread; the engine is called from at most ``concurrent_batches`` of them at a time.
    - Seconds in which two batches overlap count once, for the batch that ended first.
    - The measured rate is a moving average; a batch that failed, or a query without an answer, does not count.
    """

    def __init__(self, engine: Runtime, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.concurrent_batches = engine.concurrent_batches
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._threads = ThreadPoolExecutor(engine.concurrent_batches, thread_name_prefix="engine")
        self._last_end = 0.0
        self._tokens_a_second: float | None = None

    async def run(self, queries: Sequence[AnyQuery]) -> Sequence[Answer | Refusal]:
        """The answer to each of ``queries``, or why there is none.

        Raises:
            RowTooLarge: a row does not fit the device's memory.
            Exception: anything else means that the engine must not be used again.
        """
        began = self._clock()
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.score, queries)
        began, self._last_end = max(began, self._last_end), self._clock()
        pairs = zip(queries, answers, strict=True)
        tokens = sum(query.cost for query, answer in pairs if not isinstance(answer, Refusal))
        if tokens:
            self._record_rate(tokens, self._last_end - began)
        return answers

    def seconds_for(self, tokens: int) -> float | None:
        """The time that ``tokens`` are expected to take; None before the first batch has ended."""
        return tokens / self._tokens_a_second if self._tokens_a_second else None

    def check(self) -> None:
        """Raise ``EngineFailed`` if the engine has died."""
        self._engine.check()

    async def close(self) -> None:
        """Wait for the batches that run, and end the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    def _record_rate(self, tokens: int, seconds: float) -> None:
        rate = tokens / max(seconds, 1e-6)
        self._tokens_a_second = 0.8 * (self._tokens_a_second or rate) + 0.2 * rate
        self._metrics.batch(tokens, seconds)
