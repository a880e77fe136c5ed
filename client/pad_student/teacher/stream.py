"""A stream of response sets as requests of a good size, several of them on the way at once, answers in order."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

from pad_wire import Limits, SampledSet
from pad_wire.chat import as_text

SETS_PER_REQUEST = 16
CHARACTERS_PER_REQUEST = 100_000
BYTES_PER_CHARACTER = 12  # at most, in JSON: an escaped surrogate pair

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def split(
    sets: Iterable[SampledSet], limits: Limits | None, most_sets: int = SETS_PER_REQUEST
) -> Iterator[list[SampledSet]]:
    """Group sets, in order, into requests within the service's limits where they are known; no set is cut.

    A request with ``most_sets`` is yielded before the next set is read, which may take long to come.
    """
    most_characters = CHARACTERS_PER_REQUEST
    if limits:
        most_sets = min(most_sets, limits.max_sets)
        most_characters = min(most_characters, limits.max_body_bytes // BYTES_PER_CHARACTER)
    request: list[SampledSet] = []
    characters = 0
    for each in sets:
        size = len(as_text(each.prompt)) + sum(len(response.text) for response in each.responses)
        if request and characters + size > most_characters:
            yield request
            request, characters = [], 0
        request.append(each)
        characters += size
        if len(request) == most_sets:
            yield request
            request, characters = [], 0
    if request:
        yield request


def ordered_map(
    function: Callable[[Item], Answer], items: Iterable[Item], workers: int
) -> Generator[Answer, None, None]:
    """Apply ``function`` in ``workers`` threads and yield each answer, in order, as soon as it is there.

    ``items`` is read in a thread of its own, 2 × ``workers`` ahead of what was yielded, so that one that takes long
    to come holds up no answer. An error, of ``items`` too, is raised where its answer would have been; items not
    begun by then are never begun.
    """
    answers: SimpleQueue[Future[Answer] | None] = SimpleQueue()
    jobs: SimpleQueue[tuple[Future[Answer], Item] | None] = SimpleQueue()
    room, closed = Semaphore(2 * workers), Event()

    def read() -> None:
        try:
            for item in items:
                room.acquire()
                if closed.is_set():
                    return
                future: Future[Answer] = Future()
                answers.put(future)
                jobs.put((future, item))
            answers.put(None)
        except BaseException as error:  # noqa: BLE001 -- raised again where the answer is taken
            answers.put(failed := Future())
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
            except BaseException as error:  # noqa: BLE001 -- raised again where the answer is taken
                future.set_exception(error)

    # Not an executor: its threads would hold up the exit after Ctrl-C for as long as a retry waits.
    for target in (read, *[work] * workers):
        Thread(target=target, name="teacher", daemon=True).start()
    try:
        while (future := answers.get()) is not None:
            answer = future.result()
            room.release()
            yield answer
    finally:
        closed.set()
        room.release()
