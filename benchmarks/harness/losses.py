"""Seconds of the preference losses, alone and as a share of a training step."""

import time
from statistics import median
from typing import Any

import torch

from benchmarks.harness.floor import floor_of
from benchmarks.harness.shapes import SHAPES
from pad_student.preference.losses import LOSSES
from pad_student.preference.metrics import preference_metrics

CASES = [("ppd", n) for n in (4, 8, 16, 32, 64)] + [("vpd", 64)]
CASES += [("forward_kl", 8), ("forward_kl", 16), ("reverse_kl", 16)]
ROUNDS = 25


def loss_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of each loss for one prompt, and their share of a step with as many responses.

    Args:
        result: of ``benchmarks.train``. PADTrainer's step in it is scaled by the floor's operations.
    """
    shape, prompt, response = SHAPES[result["model"]], range(result["prompt"]), range(result["response"])
    measured = next(row["seconds_a_step"] for row in result["rows"] if row["contender"] == "ours")

    def flop(n: int) -> int:
        return floor_of(shape, [{"prompt_ids": prompt, "response_ids": [response] * n}]).flop

    rows = []
    for name, n in CASES:
        step = measured * flop(n) / flop(result["n"]) / result["groups_a_step"]
        seconds = loss_seconds(name, n)
        rows.append({"loss": name, "n": n, "seconds": seconds, "share": seconds / step})
    return rows


def loss_seconds(name: str, n: int, metrics: bool = True) -> float:
    """Median CPU seconds of one prompt's loss and gradient, for n responses.

    Args:
        name: of the loss.
        n: responses of the prompt.
        metrics: also compute the trainer's preference metrics.

    One thread is used, because two are no faster for tensors this small. CPU time leaves out other processes.
    """
    torch.set_num_threads(1)
    teacher_1_N, student_1_N = torch.randn(1, n), torch.randn(1, n, requires_grad=True)

    def run() -> float:
        began = time.process_time()
        LOSSES[name](teacher_1_N, student_1_N).mean().backward()
        if metrics:
            preference_metrics(teacher_1_N, student_1_N.detach(), student_1_N.detach())
        return time.process_time() - began

    run()
    return median(run() for _ in range(ROUNDS))
