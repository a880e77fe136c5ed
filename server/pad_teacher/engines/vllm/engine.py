"""The engine for large teachers: vLLM's AsyncLLM in this process, its model in processes that vLLM starts."""

import asyncio
import itertools
import multiprocessing
import threading
from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from typing import Any, TypeVar

from pad_teacher.engines.base import Engine, EngineFailed
from pad_teacher.engines.queries import Answer, FloatArray, Query
from pad_teacher.engines.vllm import checkpoint, launch
from pad_teacher.engines.vllm.options import IDENTITY
from pad_teacher.engines.vllm.process_guard import kill_with_parent
from pad_teacher.engines.vllm.requests import MOST_IDS, VllmRequest, answer, score_without_cache

T = TypeVar("T")

CHECK_SECONDS = 0.2  # between checks that vLLM's processes live


class VllmEngine(Engine):
    """Scores through vLLM's scheduler, whose prefix cache shares the common beginnings of texts."""

    name = "vllm"
    scores_given_ids = False
    most_ids = MOST_IDS
    concurrent_batches = 2  # the second begins while the last requests of the first run

    def __init__(self, start: Coroutine[Any, Any, Any], digest: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="vllm", daemon=True)
        self._thread.start()
        others = multiprocessing.active_children()
        try:
            self._llm = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        except BaseException:
            self._stop_loop()
            raise
        # vLLM's processes would survive a kill of this one, and keep the GPUs.
        started = set(multiprocessing.active_children()).difference(others)
        self._guard = kill_with_parent(child.pid for child in started if child.pid)
        config: Any = self._llm.vllm_config
        self.dtype = str(config.model_config.dtype).removeprefix("torch.")
        self.vocabulary = config.model_config.get_vocab_size()
        self.max_context_tokens = config.model_config.max_model_len - launch.BEYOND_TEXT
        self._ranks = config.parallel_config.data_parallel_size
        self._numbers = itertools.count()
        self._digest = digest

    @classmethod
    def load(
        cls,
        model: str,
        *,
        revision: str | None,
        dtype: str,
        max_context_tokens: int | None,
        max_batch_tokens: int,
        options: Mapping[str, Any],
        allow: Collection[str] = (),
    ) -> "VllmEngine":
        """Start vLLM on a directory or a hub id, with ``options`` among its arguments.

        ``allow`` names findings that are no reason to refuse the checkpoint.

        Raises:
            BadOption: if one of the options cannot be given.
            OSError: if there is no such model.
            ValueError: if it does not fit the device, or its weights are not those of its config.
        """
        launch.prepare(options)
        directory = checkpoint.directory_of(model, revision)
        checkpoint.check(directory, options.get("hf_overrides"), allow)
        options = {"load_format": checkpoint.load_format(directory)} | dict(options)
        arguments = launch.arguments(directory, dtype, max_context_tokens, max_batch_tokens, options)
        identity = {"dtype": arguments["dtype"]} | {name: arguments.get(name) for name in IDENTITY}
        return cls(launch.start(arguments), checkpoint.digest(directory, identity))

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``Engine``."""
        return self._wait(self._score(queries))

    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """See ``Engine``: one request alone, in one stage, without reading the cache."""
        return self._wait(score_without_cache(prompt_ids, response_ids, partial(self._send, 0)))

    def digest(self) -> str:
        """See ``Engine``; over the checkpoint's files, since the weights are in other processes."""
        return self._digest

    def check(self) -> None:
        """See ``Engine``."""
        if self._llm.errored:
            raise EngineFailed("vLLM's engine process has died")

    def close(self) -> None:
        """See ``Engine``."""
        if self._llm.output_handler is not None:  # it would log its end as an error
            self._loop.call_soon_threadsafe(self._llm.output_handler.cancel)
        self._llm.shutdown(timeout=5)
        self._guard.communicate()
        self._stop_loop()

    async def _score(self, queries: Sequence[Query]) -> list[Answer]:
        # All requests of a query go to one replica of the model: its cache holds the prompt.
        sends = (partial(self._send, number % self._ranks) for number in itertools.count())
        return list(await asyncio.gather(*map(answer, queries, sends, itertools.repeat(self.vocabulary))))

    async def _send(self, rank: int, request: VllmRequest) -> Any:
        prompt, params = launch.prompt_and_params(request)
        replica = rank if self._ranks > 1 else None
        number = str(next(self._numbers))
        try:
            outputs = self._llm.generate(prompt, params, request_id=number, data_parallel_rank=replica)
            return [output async for output in outputs][-1]
        except Exception as error:  # whatever it is, vLLM has not scored the request
            raise EngineFailed(f"vLLM: {type(error).__name__}: {error}") from error

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on vLLM's loop. If vLLM dies, fail soon, even if it never answers."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not wait([future], CHECK_SECONDS).done:
            try:
                self.check()
            except EngineFailed:
                future.cancel()
                raise
        return future.result()

    def _run_loop(self) -> None:
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))  # here they end
        self._loop.close()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
