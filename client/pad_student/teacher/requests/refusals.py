"""Sets that the teacher refuses: left out and counted, up to a share of all sets, or the end of the run."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping

from pad_student.preference.settings import OnRefused
from pad_student.teacher.errors import TeacherRefused, TooManyRefused
from pad_wire import SampledSet

REFUSES_ONE_SET = frozenset({"too_long", "template_refused", "body_too_large"})
FEW = 50  # sets: the share of fewer says little
SHOWN = 3  # refusals of each kind that the log shows

log = logging.getLogger(__name__)


class Refusals:
    """Decides about refused sets, and counts them; thread-safe.

    Invariants:
        - With ``stop``, the first refusal ends the run.
        - With ``skip``, more refusals than ``most`` of the sets so far, but at least of ``FEW``, end it.

    Args:
        policy: ``skip`` or ``stop``.
        most: share of all sets that may be left out.
    """

    def __init__(self, policy: OnRefused = "stop", most: float = 1.0) -> None:
        self._policy = policy
        self._most = most
        self._counts = Counter[str]()
        self._asked = 0
        self._first: TeacherRefused | None = None
        self._lock = threading.Lock()

    @property
    def counts(self) -> Mapping[str, int]:
        """Sets left out, by the code of the refusal."""
        return self._counts

    def takes(self, refused: TeacherRefused) -> bool:
        """Whether a set that was refused so is left out."""
        return self._policy == "skip" and refused.code in REFUSES_ONE_SET

    def answered(self, sets: int) -> None:
        """Count sets that were scored."""
        with self._lock:
            self._asked += sets

    def leave_out(self, left_out: SampledSet, refused: TeacherRefused) -> None:
        """Count a set that was refused.

        Raises:
            TooManyRefused: if that is one too many.
        """
        code = refused.code or ""
        with self._lock:
            self._asked += 1
            self._counts[code] += 1
            self._first = self._first or refused
            if self._counts[code] <= SHOWN:
                log.warning("the set %s is left out: %s", left_out.id, refused)
            self._check(max(self._asked, FEW))

    def check(self, total: int) -> None:
        """Compare with the number of all sets, once it is known.

        Raises:
            TooManyRefused: if too many were refused.
        """
        with self._lock:
            self._check(total)

    def note(self) -> str:
        """The part of a closing line about refused sets; empty if there are none."""
        return refused_note(self._counts)

    def _check(self, total: int) -> None:
        refused = self._counts.total()
        if refused > self._most * total and self._first is not None:
            raise TooManyRefused(
                f"the teacher refuses {refused} of {self._asked} sets ({_listed(self._counts)}), and most_refused is"
                f" {self._most:g}; the first: {self._first}",
                self._first.code,
                self._first.where,
            )


def refused_note(counts: Mapping[str, int]) -> str:
    """The part of a closing line about refused sets; empty if there are none."""
    return f"; {sum(counts.values())} sets refused by the teacher ({_listed(counts)})" if counts else ""


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
