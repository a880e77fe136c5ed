"""The parts that all updates of a student share: the optimiser, the step around a gradient, the measured part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.contenders.worker import Job, LoadedContender, Part


def load_student(job: Job) -> Any:
    """The model in training mode; random weights have no dropout."""
    return AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).train()


def held_bytes() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def update_contender(
    model: Any, job: Job, baseline: int, gradient: Callable[[], Any], packages: tuple[str, ...]
) -> LoadedContender:
    """A contender with one part: ``updates`` steps of gradient, clipping and AdamW. One step warms up.

    Args:
        model: the student.
        job: whose options give ``updates``.
        baseline: bytes that the process held before it loaded the model.
        gradient: adds to the ``grad`` of every parameter.
        packages: whose versions are reported.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def run(updates: int) -> None:
        for _ in range(updates):
            gradient()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    run(1)
    part = Part(lambda: run(job.options["updates"]), facts=lambda _: {"baseline_bytes": baseline})
    return LoadedContender({"update": part}, packages)


def arguments() -> dict[str, Any]:
    """Arguments of a transformers Trainer: float32, nothing saved, nothing printed."""
    return {
        "output_dir": "/tmp/unused",
        "per_device_train_batch_size": 1,
        "max_steps": 1,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
