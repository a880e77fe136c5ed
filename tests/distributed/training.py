"""What the tests run in each process: a PADTrainer on scored sets, in float64, its weights kept for comparison."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from fakes import byte_tokenizer
from tiny import tiny_model

from pad_student.config import PADConfig
from pad_student.trainer import PADTrainer
from pad_wire import ScoredResponse, ScoredSet, TeacherId

LIKED = [-0.4, -0.9, -1.7, -0.6]


def scored_sets(count: int = 8, letters: int = 50) -> list[ScoredSet]:
    """Sets of responses of different lengths, so that ranks differ in how much they have to predict."""
    return [
        ScoredSet(
            id=f"s{k}",
            prompt=f"say {k}",
            label_mass=0.9,
            teacher=TeacherId(model="fake", fingerprint="f"),
            responses=[
                ScoredResponse(
                    text="ab"[j % 2] * (letters + 7 * j + k) + str(k),
                    log_likelihood=5 * value,
                    tokens=5,
                    mean_log_likelihood=value,
                    selection_probability=[0.4, 0.1, 0.2, 0.3][(j + k) % 4],
                )
                for j, value in enumerate(LIKED)
            ],
        )
        for k in range(count)
    ]


class Observed(PADTrainer):
    """Notes the dtypes of what the loss is made of."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(*args, **kwargs | {"return_outputs": True})
        self.dtypes = {"loss": str(loss.dtype), "scores": str(outputs["scores_student"].dtype)}
        return loss


def train(out: Path, how: dict[str, Any], lora: bool = False, dtype: str = "float64", sharded: bool = False) -> None:
    """Train two steps of four prompts, and save the trained weights as ``weights.pt``."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 2,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4 // processes,
        "learning_rate": 1e-3,
        "save_steps": 100,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    config = PADConfig(**settings | how)
    if sharded:
        _let_cpus_shard()
    torch.manual_seed(0)
    model = tiny_model().to(getattr(torch, dtype))
    adapter = None
    if lora:
        from peft import LoraConfig

        adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = Observed(model, config, scored_sets(), byte_tokenizer(), peft_config=adapter)
    trainer.train()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        assert trainer.is_fsdp_enabled == sharded
        torch.save(state, out / "weights.pt")
        (out / "dtypes.json").write_text(json.dumps(trainer.dtypes))


def _let_cpus_shard() -> None:
    """Accelerate takes its FSDP settings from GPUs only; PyTorch shards over gloo as well."""
    from accelerate.state import DistributedType, PartialState

    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
