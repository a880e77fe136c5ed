"""Python's garbage collector, tuned so that it does not stall the service.

While it looks at all objects no thread runs: 100 ms for a loaded teacher, or for what one large request holds. Hardly
any of that is ever garbage that only the collector finds.
"""

import asyncio
import gc
from collections.abc import Callable

from pad_teacher.runtime.reading_thread import ReadingThread

# No full collection by itself: it comes by the number of new objects, just when a large request holds a million.
GC_THRESHOLDS = (700, 5, 2**30)
COLLECT_SECONDS = 30.0  # between two full collections of an idle service
MOST_WAITS = 2  # for an idle moment; then one will do in which nothing is read or written


def freeze_loaded_objects() -> None:
    """Exempt everything loaded so far from garbage collection, and keep later collections short."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def collect_while_idle(thread: ReadingThread, is_idle: Callable[[], bool]) -> None:
    """Run a full collection in ``thread`` now and then, while no request is under way and all of them are freed."""
    waits = 0

    def collect() -> None:
        nonlocal waits
        if not thread.has_work:  # in the thread: what still waits there holds objects, or is to free them
            gc.collect()
            waits = 0

    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        waits += 1
        if is_idle() or waits > MOST_WAITS:
            thread.run_later(collect)
