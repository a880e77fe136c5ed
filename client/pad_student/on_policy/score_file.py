"""One round's scores on disk: those whose sets are on disk too, and those that came earlier. No threads."""

from contextlib import ExitStack
from pathlib import Path

from pad_student.storage import jsonl
from pad_student.storage.jsonl import Appender
from pad_wire import SampledSet, ScoredSet


class ScoreFile:
    """``scored.jsonl`` of a round, and next to it ``scored.early`` until the round's sets are on disk.

    Invariants:
        - ``scored.jsonl`` grows only after ``commit``: before, the sets are not on disk, and after a kill the student
          may sample other ones in their place.
        - A score that was added before ``commit`` is in ``scored.early``, so a kill does not lose it.
        - A score from ``scored.early`` is used again only for a set with the same prompt and the same responses.
        - After ``abandon`` or ``close`` nothing is written.

    Not thread-safe. ``found`` holds all scores on the disk by the id of their set, before ``commit`` too.

    Args:
        path: of ``scored.jsonl``; scores of an earlier start are read from it.

    Raises:
        JsonLinesError: from any method, if a file cannot be written, or has a line that is no scored set.
    """

    def __init__(self, path: Path) -> None:
        self._early_path = path.with_suffix(".early")
        self._pending: list[ScoredSet] = []
        self._committed = self._abandoned = False
        with ExitStack() as opened:
            self._early = opened.enter_context(Appender(self._early_path))
            self._out = opened.enter_context(Appender(path))
            self.found = {each.id: each for each in jsonl.read(path, ScoredSet)}
            self._known = {each.id: each for each in jsonl.read(self._early_path, ScoredSet)}
            self._files = opened.pop_all()

    def known(self, sampled: SampledSet) -> ScoredSet | None:
        """The scores of exactly this set from before a kill; None if there are none."""
        known = self._known.get(sampled.id)
        same = known and known.prompt == sampled.prompt and _sampled(known) == _sampled(sampled)
        return known if same else None

    def add(self, scored: ScoredSet) -> None:
        """Keep a set's scores: in ``scored.jsonl`` after ``commit``, else in ``scored.early``."""
        if self._abandoned:
            return
        self._pending.append(scored)
        if self._committed:
            self._write()
        elif self._known.get(scored.id) is not scored:
            self._early.append(scored)
        self.found[scored.id] = scored

    def commit(self) -> None:
        """The sets are on disk: write the scores so far, and from now on each as it is added."""
        self._committed = True
        self._write()

    def abandon(self) -> None:
        """Write nothing more."""
        self._abandoned = True
        self._pending.clear()

    def remove_early(self) -> None:
        """Remove ``scored.early``, once ``scored.jsonl`` holds all scores."""
        self._early_path.unlink()

    def close(self) -> None:
        """Flush both files to the disk and close them."""
        self.abandon()
        self._files.close()

    def _write(self) -> None:
        if self._pending:
            self._out.append(*self._pending)
            self._pending.clear()


def _sampled(each: SampledSet | ScoredSet) -> list[tuple[str, bool, list[int] | None]]:
    return [(response.text, response.finished, response.ids) for response in each.responses]
