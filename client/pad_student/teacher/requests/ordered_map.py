"""A map over a stream in several threads that yields results in order."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result]:
    """Apply ``function`` to every item in ``workers`` threads.

    1. Results are yielded in the order of their items, each as soon as it and all before it are there.
    2. ``items`` is read in a thread of its own, so an item that takes long to come delays no result before it.
    3. ``items`` is read at most 2 × ``workers`` + 1 items ahead of the results that were taken.
    4. An error, of ``function`` or of ``items``, is raised in the place of its result, after all results before it.
    5. After an error, or after ``close``, no further item is begun; items that are being worked on are not awaited.
    """
    results: SimpleQueue[Future[Result] | None] = SimpleQueue()
    jobs: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    room, closed = Semaphore(2 * workers), Event()

    def read() -> None:
        try:
            for item in items:
                room.acquire()
                if closed.is_set():
                    return
                future: Future[Result] = Future()
                results.put(future)
                jobs.put((future, item))
            results.put(None)
        except BaseException as error:  # noqa: BLE001 -- raised again where its result would be taken
            results.put(failed := Future())
            failed.set_exception(error)
        finally:
            for _ in range(workers):
                jobs.put(None)

    def work() -> None:
        while (job := jobs.get()) is not None:
            future, item = job
            if closed.is_set():
                continue
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001 -- raised again where the result is taken
                future.set_exception(error)

    # Daemon threads, not an executor: after Ctrl-C an executor delays the exit for as long as a retry waits.
    for target in (read, *[work] * workers):
        Thread(target=target, name="teacher", daemon=True).start()
    try:
        while (future := results.get()) is not None:
            result = future.result()
            room.release()
            yield result
    finally:
        closed.set()
        room.release()
