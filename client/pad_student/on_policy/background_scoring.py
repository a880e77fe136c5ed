"""One round's scores, made by a thread: the teacher is kept busy while the student samples and trains."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread

from pad_student.on_policy.score_file import ScoreFile
from pad_wire import SampledSet, ScoredSet

ScoreStream = Callable[[Iterable[SampledSet]], Iterator[ScoredSet]]


class _End(Enum):
    PART, ALL = "part", "all"


class BackgroundScorer:
    """Has sets scored in the order in which they are fed, and keeps the scores in a file; thread-safe.

    Invariants:
        - The teacher is asked for nothing before the scorer ``before`` has ended; if that failed, this one fails too.
        - The file of scores grows only after ``complete``; see ``ScoreFile``.
        - Every set ends in one of three ways: it is scored, it is left out because it exceeds the teacher's context,
          or ``score_of`` raises the error that ended the scoring.
        - After ``stop`` nothing more is asked for or written.

    Args:
        stream: scores sets, several at a time, and yields them in order; it may leave out some.
        out: file of scores; its sets are not asked for again.
        before: the scorer whose sets the teacher gets first.

    Raises:
        JsonLinesError: for a file of scores that cannot be read or written.
    """

    def __init__(self, stream: ScoreStream, out: Path, before: "BackgroundScorer | None" = None) -> None:
        self._stream = stream
        self._before = before
        self._queue: SimpleQueue[SampledSet | _End] = SimpleQueue()
        self._changed = Condition()  # guards all that follows
        self._file = ScoreFile(out)
        self._left_out: set[str] = set()
        self._error: BaseException | None = None
        self._complete = self._stopped = self._fed_all = False
        self._thread = Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def feed(self, sets: Iterable[SampledSet]) -> None:
        """Have these scored too."""
        for each in sets:
            self._queue.put(each)

    def finish_part(self) -> None:
        """Have all that was fed so far scored, even if more would fit into the last request."""
        self._queue.put(_End.PART)

    def complete(self) -> None:
        """Declare that all sets have been fed and are on disk.

        Raises:
            JsonLinesError: if the scores so far cannot be written.
        """
        try:
            with self._changed:
                self._complete = True
                self._changed.notify_all()
                self._file.commit()
        finally:
            self._queue.put(_End.ALL)

    def stop(self) -> None:
        """Ask for nothing more, and write nothing more."""
        with self._changed:
            self._stopped = True
            self._file.abandon()
        self.complete()

    def score_of(self, identifier: str) -> ScoredSet | None:
        """Wait for a set's scores; None if it was left out.

        Raises:
            TeacherError: if the scoring ended before this set; the scores so far are kept.
            JsonLinesError: if the scores cannot be written.
        """

        def is_known() -> bool:
            return identifier in self._file.found or identifier in self._left_out

        with self._changed:
            self._changed.wait_for(lambda: is_known() or self._error is not None)
            if self._error is not None and not is_known():
                raise self._error
            return self._file.found.get(identifier)

    def join(self) -> None:
        """Wait for the end, and raise the error that ended the scoring, if any."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            try:
                if self._before is not None:
                    self._before.join()
                    self._before = None  # or each round would keep all earlier ones in memory
                if not self._stopped:
                    self._score()
            finally:
                with self._changed:  # the stream's own thread may still be adding known scores
                    self._file.close()
            if not self._stopped:
                self._file.remove_early()
        except BaseException as error:  # noqa: BLE001 -- raised again in the threads that wait for scores
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _score(self) -> None:
        try:
            while not self._fed_all:
                for scored in _answers(self._stream, self._unscored(), self._leave_out):
                    self._add(scored)
                    if self._stopped:
                        return
        except BaseException as error:
            self._fail(error)  # at once: what is fed next may depend on a score that will not come
            raise
        finally:
            with self._changed:
                self._changed.wait_for(lambda: self._complete)
                self._file.commit()
                self._changed.notify_all()

    def _unscored(self) -> Iterator[SampledSet]:
        """Yield a part's sets to ask for; those of an earlier start are added from disk on the way."""
        while not isinstance(each := self._queue.get(), _End):
            if self._stopped:
                break
            if each.id in self._file.found:
                continue
            if known := self._file.known(each):
                self._add(known)
            else:
                yield each
        self._fed_all = self._stopped or each is _End.ALL

    def _add(self, scored: ScoredSet) -> None:
        with self._changed:
            self._file.add(scored)
            self._changed.notify_all()

    def _leave_out(self, each: SampledSet) -> None:
        with self._changed:
            self._left_out.add(each.id)
            self._changed.notify_all()


def _answers(
    stream: ScoreStream, sets: Iterable[SampledSet], leave_out: Callable[[SampledSet], None]
) -> Iterator[ScoredSet]:
    """Yield scored sets; ``leave_out`` takes those that the stream skipped."""
    asked: deque[SampledSet] = deque()

    def noted() -> Iterator[SampledSet]:
        for each in sets:
            asked.append(each)
            yield each

    for scored in stream(noted()):
        while (each := asked.popleft()).id != scored.id:
            leave_out(each)
        yield scored
    for each in asked:
        leave_out(each)
