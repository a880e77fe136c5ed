"""The metrics of the steps since the last line in the log: collected, averaged over all processes, and judged."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from math import isfinite

from pad_student.model.distributed.processes import means_of_all
from pad_student.preference.diagnostics import SignalMonitor

logger = logging.getLogger(__name__)


class StepMetrics:
    """Collects the metrics of micro-batches until they are logged.

    Invariants:
        - A value that is not finite is left out: agreement is undefined if every pair is tied.
        - Each value counts in one mean, by the prompts, sets or pairs that it is of, so that means do not depend on
          how a step is cut into micro-batches. To take the means empties the collection.
        - Each kind of warning is given once in a run.

    Args:
        loss: name of the loss in ``losses.LOSSES``.
        method: that trains the student.
    """

    def __init__(self, loss: str, method: str = "pad") -> None:
        self._values: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._monitor = SignalMonitor(loss, method)

    def note(
        self, metrics: Mapping[str, float], prompts: int = 1, weights: Mapping[str, float] | None = None
    ) -> None:
        """Add one micro-batch's metrics: means over its prompts, except those that have ``weights`` of their own."""
        for name, value in metrics.items():
            if isfinite(value):
                self._values[name].append((value, (weights or {}).get(name, prompts)))

    def take(self) -> dict[str, float]:
        """The mean of each metric over all processes since the last call; collective."""
        means = means_of_all(self._values)
        self._values.clear()
        return means

    def warn(self, means: Mapping[str, float], gradient_norm: float | None) -> None:
        """Log a warning about each metric that looks wrong; ``means`` may have the Trainer's own too."""
        for warning in self._monitor.update(means, means.get("loss/preference"), gradient_norm):
            logger.warning(warning)
