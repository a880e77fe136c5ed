"""Python's garbage collector, tuned so that it does not stall the service.

While it looks at all objects no thread runs: 100 ms for a loaded teacher, or for what one large request holds. Hardly
any of that is ever garbage that only the collector finds.
"""

import asyncio
import gc
from collections.abc import Callable

from pad_teacher.runtime.reading_thread import ReadingThread

# Full collections stall all threads for about 100 ms, so they run 200 times less often than CPython's own.
GC_THRESHOLDS = (700, 5, 2_000)
COLLECT_SECONDS = 30.0  # between two full collections of an idle service


def freeze_loaded_objects() -> None:
    """Exempt everything loaded so far from garbage collection, and keep later collections short."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def collect_while_idle(thread: ReadingThread, is_idle: Callable[[], bool]) -> None:
    """Run a full collection in ``thread`` now and then, if no request is under way at that moment."""
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        if is_idle():
            thread.run_later(gc.collect)  # after everything that is still to be freed there
