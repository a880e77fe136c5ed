"""The thread that reads requests and writes replies, so that the event loop does neither."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class ReadingThread:
    """Runs calls one after the other, in the order in which they were given.

    It is a single thread, because a Hugging Face tokenizer must not be called from two threads at the same time.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in the thread and return its result."""
        return await asyncio.wrap_future(self._thread.submit(call, *args, **kwargs))

    def run_later(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call it in the thread after all earlier calls; nobody waits for it. After ``close`` nothing is called."""
        with suppress(RuntimeError):  # the executor is shut down
            self._thread.submit(call, *args, **kwargs)

    def close(self) -> None:
        """Drop the calls that have not begun, and do not wait for the one that runs."""
        self._thread.shutdown(wait=False, cancel_futures=True)
