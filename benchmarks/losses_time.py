"""Seconds of the preference losses, their gradients and a step's metrics, beside those of a step.

    python benchmarks/losses_time.py

measures them again beside the step that train.json has, and writes them there.
"""

import datetime
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness.floor import floor_of
from harness.shapes import SHAPES

from pad_student.preference.diagnostics import preference_metrics
from pad_student.preference.losses import LOSSES

RESULT = Path(__file__).parent / "results" / "train.json"
CASES = [("ppd", n) for n in (4, 8, 16, 32, 64)] + [("vpd", 64)]
CASES += [("forward_kl", 8), ("forward_kl", 16), ("reverse_kl", 16)]
ROUNDS = 25


def main() -> None:
    result = json.loads(RESULT.read_text())
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result |= {"loss_date": now, "loss": loss_rows(result)}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for row in result["loss"]:
        print(f"{row['loss']:12} {row['n']:3} {1e3 * row['seconds']:6.1f} ms {row['share']:.2%}")


def loss_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """By loss and responses, for one prompt: seconds, and as a share of a step with as many responses.

    Args:
        result: of ``train.py``; its step of ours is scaled by the operations that it cannot do without.
    """
    shape, prompt, response = SHAPES[result["model"]], range(result["prompt"]), range(result["response"])
    measured = next(row["seconds_a_step"] for row in result["rows"] if row["way"] == "ours")

    def flop(n: int) -> int:
        return floor_of(shape, [{"prompt_ids": prompt, "response_ids": [response] * n}]).flop

    rows = []
    for name, n in CASES:
        step = measured * flop(n) / flop(result["n"]) / result["groups_a_step"]
        seconds = loss_seconds(name, n)
        rows.append({"loss": name, "n": n, "seconds": seconds, "share": seconds / step})
    return rows


def loss_seconds(name: str, n: int, metrics: bool = True) -> float:
    """Median seconds of one prompt's loss and gradient, and with ``metrics`` of the trainer's, with n responses.

    They are a CPU's seconds on one thread: for milliseconds of small tensors two are no faster, and what other
    processes take does not count.
    """
    torch.set_num_threads(1)
    teacher, student = torch.randn(1, n), torch.randn(1, n, requires_grad=True)

    def run() -> float:
        began = time.process_time()
        LOSSES[name](teacher, student).mean().backward()
        if metrics:
            preference_metrics(teacher, student.detach(), student.detach())
        return time.process_time() - began

    run()
    return median(run() for _ in range(ROUNDS))


if __name__ == "__main__":
    main()
