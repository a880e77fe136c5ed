"""What the ways of updating a student share: the optimiser, the step around a gradient, and what is measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from worker import Job, Part, Way


def load_student(job: Job) -> Any:
    """The model in training mode; random weights have no dropout."""
    return AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).train()


def held_bytes() -> int:
    """What this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def way(model: Any, job: Job, baseline: int, gradient: Callable[[], Any], packages: tuple[str, ...]) -> Way:
    """One part: ``updates`` steps of clipping and AdamW around what adds to every ``grad``. One to warm up."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def run(updates: int) -> None:
        for _ in range(updates):
            gradient()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    run(1)
    part = Part(lambda: run(job.options["updates"]), facts=lambda _: {"baseline_bytes": baseline})
    return Way({"update": part}, packages)


def arguments() -> dict[str, Any]:
    """Of a transformers Trainer: float32, nothing saved, nothing shown."""
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
