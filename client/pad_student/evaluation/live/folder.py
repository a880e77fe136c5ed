"""The runs below a folder: found by their files, and read again after these have changed."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from pad_student.errors import StudentError
from pad_student.evaluation.live.document import document, last_change, summary
from pad_student.evaluation.report.collect import collect

MARKS = ("metrics.jsonl", "starts.jsonl")  # a folder with one of these is a run
FILES = (*MARKS, "costs.jsonl", "evaluations.jsonl", "shown.jsonl", "settings.json")
DEEPEST = 6  # folders below the one that is watched
LOOK_EVERY = 1.0  # seconds, however many pages ask
IDLE_SHARE = 9  # times as long as a look took, until the next: no more than a tenth of a core
MOST_IDLE = 30.0  # seconds: the first look reads every run

Signature = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ReadRun:
    """A run as it was read last; ``told`` is its line in the list, ``whole`` the rest as JSON.

    A run that cannot be read has a ``problem`` and neither of the two.
    """

    folder: Path
    name: str
    signature: Signature
    told: dict[str, Any]
    whole: bytes = b"{}"
    problem: str | None = None

    @property
    def key(self) -> str:
        """By which the page asks for it: names may hold anything."""
        return sha256(os.fsencode(self.folder)).hexdigest()[:16]

    @property
    def version(self) -> str:
        """Differs after every change."""
        return sha256(repr(self.signature).encode()).hexdigest()[:16]


class RunFolder:
    """Watches a folder; any thread may ask.

    Invariants:
        - Links are not followed, so nothing outside the folder is read.
        - One thread looks at a time, and looks take at most a tenth of the time.
        - A run that cannot be read has a line with the reason, and hides no other.

    Args:
        root: the folder; it may be a run itself.
        now: a clock in seconds.
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.root = root
        self._now = now
        self._lock = threading.Lock()
        self._runs: dict[str, ReadRun] = {}
        self._next_look = float("-inf")

    def listed(self) -> bytes:
        """The list of runs as JSON, the newest first."""
        lines = [
            {"id": run.key, "name": run.name, "version": run.version, "problem": run.problem, **run.told}
            | {"age": last_change(run.folder, FILES)}
            for run in self.runs().values()
        ]
        lines.sort(key=lambda line: (line.get("started") or "", line["name"]), reverse=True)
        return orjson.dumps({"folder": _shown(self.root.resolve().name or str(self.root)), "runs": lines})

    def whole(self, key: str) -> bytes | None:
        """One run as JSON; None for an unknown key."""
        run = self._runs.get(key) or self.runs().get(key)
        return run.whole if run else None

    def runs(self) -> dict[str, ReadRun]:
        """The runs by key, no older than the last look."""
        with self._lock:
            began = self._now()
            if began >= self._next_look:
                self._runs = {run.key: run for run in self._look()}
                ended = self._now()
                self._next_look = ended + max(LOOK_EVERY, min(MOST_IDLE, IDLE_SHARE * (ended - began)))
            return self._runs

    def _look(self) -> Iterator[ReadRun]:
        known = {run.folder: run for run in self._runs.values()}
        for folder in _run_folders(self.root, DEEPEST):
            signature = _signature(folder)
            before = known.get(folder)
            if before and before.signature == signature:
                yield before
            else:
                inner = folder.relative_to(self.root)
                name = inner.as_posix() if inner.parts else self.root.resolve().name
                yield _read(ReadRun(folder, _shown(name), signature, {}))


def _run_folders(folder: Path, deepest: int) -> Iterator[Path]:
    """Folders with a run; within a run there is no other."""
    try:
        with os.scandir(folder) as scan:
            inside = sorted(scan, key=lambda entry: entry.name)
    except OSError:  # it is gone by now, or may not be read
        return
    if any(entry.name in MARKS and entry.is_file(follow_symlinks=False) for entry in inside):
        yield folder
        return
    for entry in inside if deepest else ():
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _run_folders(folder / entry.name, deepest - 1)


def _signature(folder: Path) -> Signature:
    """Changes with every line that is written, and with every checkpoint."""
    found: list[tuple[Any, ...]] = []
    for name in (".", *FILES):
        try:
            stat = (folder / name).lstat()
        except OSError:
            continue
        found.append((name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _read(unread: ReadRun) -> ReadRun:
    linked = [name for name in FILES if (unread.folder / name).is_symlink()]
    if linked:
        return replace(unread, problem=f"{linked[0]} is a link, which is not followed")
    try:
        run = collect(unread.folder)
        return replace(unread, told=summary(run), whole=orjson.dumps(document(run)))
    except (StudentError, OSError) as error:
        return replace(unread, problem=_shown(str(error)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return replace(unread, problem=f"its files hold something else than a run's records ({type(error).__name__})")


def _shown(name: str) -> str:
    """A name of a file as text: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
