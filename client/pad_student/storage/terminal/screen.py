"""The place of the status line: a bar of tqdm that is drawn again and again, and whole lines above it."""

import sys
import threading
from typing import Any, TextIO

from pad_student.storage.terminal.phases import Phase, Steps


class Screen:
    """Draws one line on a terminal or in a notebook; elsewhere it writes only what it is told to.

    Invariants:
        - From construction to ``close``, a text that anybody prints stands above the line, whole lines at a time.
        - Thread-safe.

    Args:
        stream: standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._bar_of: Any = _bar() if is_live(stream) else None
        self._bar: Any = None
        self._restore: list[tuple[str, TextIO, _Above]] = []
        for name in ("stderr", "stdout") if self.draws else ():
            kept = getattr(sys, name)
            if is_live(kept) or kept is stream:
                self._restore.append((name, kept, above := _Above(kept, self)))
                setattr(sys, name, above)

    @property
    def draws(self) -> bool:
        """Whether a line is drawn at all."""
        return self._bar_of is not None

    def write(self, text: str, stream: TextIO | None = None) -> None:
        """Write whole lines above the line, by default on standard error."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            target = stream or self._stream
            target.write(text)
            target.flush()
            if self._bar is not None:
                self._bar.refresh()

    def draw(self, line: str, steps: Steps | None, phase: Phase | None) -> None:
        """Draw ``line``, or a bar of the steps with their facts and the phase."""
        with self._lock:
            if self._bar is None:
                self._bar = self._bar_of(file=self._stream, dynamic_ncols=True, leave=False, bar_format="{desc}")
            bar = self._bar
            if steps is None:
                bar.bar_format, bar.total = "{desc}", None
                bar.set_description_str(line)
                return
            facts = " · ".join(filter(None, (steps.facts(), str(phase or "")))).replace("{", "").replace("}", "")
            bar.bar_format, bar.total, bar.n = f"{{desc}}|{{bar}}| {facts}", steps.total, steps.done
            bar.set_description_str(f"{steps} ")

    def close(self) -> None:
        """Remove the line; texts that were printed stay."""
        with self._lock:
            if self._bar is not None:
                self._bar.leave = False
                self._bar.close()
                self._bar = None
            for name, kept, above in self._restore:
                setattr(sys, name, kept)
                above.flush_rest()
            self._restore.clear()


class _Above:
    """A stream whose whole lines are written above the status line; a bar of another library leaves its last text."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._wrapped, self._screen, self._rest = stream, screen, ""

    def write(self, text: str) -> int:
        """Write what is whole, and keep the rest of the line."""
        lines, newline, rest = (self._rest + text).rpartition("\n")
        self._rest = rest.rpartition("\r")[2]
        if newline:
            whole = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines.split("\n"))
            self._screen.write(f"{whole}\n", self._wrapped)
        return len(text)

    def flush_rest(self) -> None:
        """Write the line that has no end."""
        if self._rest:
            self._wrapped.write(self._rest)
            self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


def _bar() -> Any:
    """The bar for a terminal or a notebook; None in an install without tqdm, which gets plain lines."""
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm


def is_live(stream: Any) -> bool:
    """Whether a line can be drawn again and again: on a terminal, or in a notebook."""
    if getattr(stream, "isatty", lambda: False)():
        return True
    return "ipykernel" in sys.modules and type(stream).__module__.startswith("ipykernel")
