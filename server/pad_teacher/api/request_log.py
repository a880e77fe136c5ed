"""One log line for each request; of refused ones a few a second for each key, so that no client fills the disk."""

import time
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger()

REFUSED_A_SECOND = 5  # lines, for each key, and for those without a key together
DEBUG, INFO, ERROR = 10, 20, 40


@dataclass(slots=True)
class _Refused:
    """The refused requests of a key in one second, and those that have had no line since the last line."""

    second: int = 0
    lines: int = 0
    left_out: int = 0


class RequestLog:
    """Writes the lines. A request that is served always has one, and so has one that met a fault of the program.

    The next line about a refused request of the same key says how many had none: ``not_logged``. The counters of
    ``/metrics`` have them all.
    """

    def __init__(self) -> None:
        self._refused: dict[str | None, _Refused] = {}

    def write(self, status: int, failure: BaseException | None, *, is_probe: bool, **fields: Any) -> None:
        """Write the line of one request, whose key is in ``fields``."""
        not_logged: int | None = None
        if status >= 400 and failure is None and not is_probe:
            refused = self._refused.setdefault(fields.get("key"), _Refused())
            if not self._may_write(refused):
                return
            not_logged, refused.left_out = refused.left_out or None, 0
        level = DEBUG if is_probe else ERROR if status >= 500 else INFO
        log.log(level, "request", status=status, exc_info=failure, not_logged=not_logged, **fields)

    def _may_write(self, refused: _Refused) -> bool:
        second = int(time.monotonic())
        if second != refused.second:
            refused.second, refused.lines = second, 0
        may = refused.lines < REFUSED_A_SECOND
        refused.lines += may
        refused.left_out += not may
        return may
