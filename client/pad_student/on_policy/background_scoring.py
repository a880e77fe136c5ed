"""One round's scores, made by a thread: the teacher is kept busy while the student samples and trains."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Event, Thread
from typing import Any

from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_wire import SampledSet, ScoredSet

Stream = Callable[[Iterable[SampledSet]], Iterator[ScoredSet]]


class Scoring:
    """Has sets scored as they are fed, and appends the scores to a file.

    The file is written from ``complete`` on: until then the sets themselves are not on disk, and after a kill others
    may be sampled in their place. What is scored earlier is kept beside it, and taken from there if after a kill the
    same set is sampled again. A set that exceeds the teacher's context is left out.

    Args:
        stream: how the teacher scores sets, several at once, answers in order; it may leave out some.
        out: where scores go; sets that it holds are not asked for.
        before: whose sets the teacher gets first; where it fails, so does this.
    """

    _early_lines: Appender  # both are opened by the thread
    _out: Appender

    def __init__(self, stream: Stream, out: Path, before: "Scoring | None" = None) -> None:
        self._stream = stream
        self._path = out
        self._early = out.with_suffix(".early")
        self._before = before
        self._fed: SimpleQueue[SampledSet | None] = SimpleQueue()
        self._complete = Event()
        self._pending: list[ScoredSet] = []  # scored, and not written yet
        self._changed = Condition()
        self._scores: dict[str, ScoredSet | None] = {}  # None for what was left out
        self._known: dict[str, ScoredSet] = {}  # scored before a kill
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def feed(self, sets: Iterable[SampledSet]) -> None:
        """Have these scored too."""
        for each in sets:
            self._fed.put(each)

    def complete(self) -> None:
        """All sets have been fed, and are on disk.

        Raises:
            JsonLinesError: where the scores so far cannot be written.
        """
        self._complete.set()
        try:
            self._write()
        finally:
            self._fed.put(None)

    def stop(self) -> None:
        """Ask for nothing more, and write nothing more."""
        with self._changed:
            self._stopped = True
        self.complete()

    def score_of(self, identifier: str) -> ScoredSet | None:
        """Wait for a set's scores; None where it was left out.

        Raises:
            TeacherError: what ended the scoring before this set; the scores until then are kept.
            JsonLinesError: where the scores cannot be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: identifier in self._scores or self._error is not None)
            if self._error is not None and identifier not in self._scores:
                raise self._error
            return self._scores[identifier]

    def join(self) -> None:
        """Wait for the end, and raise what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()
                self._before = None  # or each round would keep all earlier ones in memory
            if self._stopped:
                return
            with Appender(self._early) as self._early_lines, Appender(self._path) as self._out:
                self._known = {each.id: each for each in jsonl.read(self._early, ScoredSet)}
                self._score(self._out.held)
            if not self._stopped:
                self._early.unlink()
        except BaseException as error:  # noqa: BLE001 -- raised again where the scores are waited for
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _score(self, held: set[Any]) -> None:
        with self._changed:
            self._scores = {each.id: each for each in jsonl.read(self._path, ScoredSet)}
            self._changed.notify_all()
        try:
            for each in self._answers(self._unscored(held)):
                self._take(each)
                if self._stopped:
                    return
        finally:
            self._complete.wait()
            self._write()

    def _unscored(self, held: set[Any]) -> Iterator[SampledSet]:
        for each in iter(self._fed.get, None):
            if self._stopped:
                return
            if each.id in held:
                continue
            known = self._known.get(each.id)
            if known and known.prompt == each.prompt and _texts(known) == _texts(each):
                self._take(known)
            else:
                yield each

    def _take(self, scored: ScoredSet) -> None:
        with self._changed:
            self._pending.append(scored)
            if not (self._complete.is_set() or self._stopped or self._known.get(scored.id) is scored):
                self._early_lines.append(scored)
        if self._complete.is_set():
            self._write()

    def _write(self) -> None:
        with self._changed:
            if self._pending and not self._stopped:
                self._out.append(*self._pending)
                self._scores.update({each.id: each for each in self._pending})
                self._changed.notify_all()
            self._pending.clear()

    def _answers(self, sets: Iterable[SampledSet]) -> Iterator[ScoredSet]:
        asked: deque[SampledSet] = deque()

        def noted() -> Iterator[SampledSet]:
            for each in sets:
                asked.append(each)
                yield each

        for scored in self._stream(noted()):
            while (each := asked.popleft()).id != scored.id:
                self._leave_out(each)
            yield scored
        for each in asked:
            self._leave_out(each)

    def _leave_out(self, each: SampledSet) -> None:
        """It exceeds the teacher's context: one such set must not end the run."""
        with self._changed:
            self._scores[each.id] = None
            self._changed.notify_all()


def _texts(each: SampledSet | ScoredSet) -> list[tuple[str, bool]]:
    return [(response.text, response.finished) for response in each.responses]
