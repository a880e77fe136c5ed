"""Evaluation during training on held-out scored sets: loss and agreement, without a teacher."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from pad_student.model.distributed.processes import count, fail_together, is_first, means_of_all, rank
from pad_student.preference.config import PADConfig
from pad_student.storage.terminal.status import STATUS
from pad_student.training.heldout.record import bind_to_rows
from pad_student.training.methods import Method
from pad_torch.modes import evaluating
from pad_wire import ScoredSet

AGREEMENT = "agreement/pairwise"


class HeldOutSets:
    """The method's own loss on scored sets that are not trained on; of pad the agreement with the teacher too.

    Args:
        rows: the sets.
        config: the sizes of batches.
        method: makes batches and their loss.
    """

    best: tuple[str, bool] = ("eval_loss", False)

    def __init__(self, rows: Sequence[ScoredSet], config: PADConfig, method: Method) -> None:
        self._rows, self._config, self._method = rows, config, method

    def begin(self, model: Any, step: int) -> None:
        """Make sure that the sets are those of earlier starts; nothing is compared with the start."""
        fail_together(lambda: bind_to_rows(self._config, self._rows) if is_first() else None)

    @torch.no_grad()
    def measure(self, model: Any, step: int) -> dict[str, float]:
        """``loss``, the mean over all sets, and ``agreement``, the mean over their judged pairs, over all processes.

        Every process makes as many forward passes, since each pass gathers the weights that are sharded.
        """
        own = list(self._rows[rank() :: count()])
        values: dict[str, list[tuple[float, float]]] = {}
        size = self._config.per_device_eval_batch_size
        with STATUS.phase("evaluating", len(own)) as phase, evaluating(model):
            for first in range(0, math.ceil(len(self._rows) / count()), size):
                sets = own[first : first + size]
                batch = {name: tensor.to(model.device) for name, tensor in self._method.batch(sets).items()}
                made = self._method.loss(batch, self._method.student(model, batch, False))
                if not sets:
                    continue  # a pass that only the other processes need
                values.setdefault("loss", []).append((made.loss.item(), len(sets)))
                agreement = made.metrics.get(AGREEMENT, math.nan)
                if not math.isnan(agreement):  # if every pair is tied
                    values.setdefault("agreement", []).append((agreement, made.weights[AGREEMENT]))
                phase.update(len(sets))
        return means_of_all(values)


# pyright: standard
