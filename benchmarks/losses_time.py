"""Seconds of the preference losses, their gradients and a step's metrics, beside those of a step."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from pad_student.diagnostics import preference_metrics
from pad_student.losses import LOSSES
from pad_student.plackett_luce import MAX_EXACT

CASES = [("ppd", 4), ("ppd", 8), ("ppd", 16), ("ppd", 64), ("forward_kl", 8), ("forward_kl", 16), ("reverse_kl", 16)]
ROUNDS = 9


def loss_seconds(step: Callable[[int], float]) -> list[dict[str, Any]]:
    """By loss and responses, for one prompt: seconds, and as a share of ``step(responses)``, a step's seconds.

    Metrics are the trainer's, which go up to 16 responses.
    """
    rows = []
    for name, responses in CASES:
        teacher, student = torch.randn(1, responses), torch.randn(1, responses, requires_grad=True)

        def run(loss: Any = LOSSES[name], teacher: Any = teacher, student: Any = student) -> float:
            began = time.perf_counter()
            loss(teacher, student).mean().backward()
            if teacher.shape[1] <= MAX_EXACT:
                preference_metrics(teacher, student.detach(), student.detach())
            return time.perf_counter() - began

        run()
        seconds = median(run() for _ in range(ROUNDS))
        rows.append({"loss": name, "n": responses, "seconds": seconds, "share": seconds / step(responses)})
    return rows
