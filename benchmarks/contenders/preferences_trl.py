"""Students that TRL trains on pairs, by SFT on the chosen answer, DPO or SimPO: one for each learning rate of a job.

It runs in TRL's own Python: ``python -m benchmarks.contenders.preferences_trl JOB.json``. The job is what
``benchmarks.evidence.methods`` writes.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

TRAINERS: dict[str, tuple[Any, Any]] = {
    "sft": (SFTConfig, SFTTrainer),
    "dpo": (DPOConfig, DPOTrainer),
    "simpo": (CPOConfig, CPOTrainer),
}
LIKE_THE_DEMO: dict[str, Any] = {"lr_scheduler_type": "cosine", "max_grad_norm": 1.0, "weight_decay": 0.0}
ON_A_CPU: dict[str, Any] = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False}
QUIET: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "logging_steps": 20, "disable_tqdm": True}
OF_SIMPO: dict[str, Any] = {"loss_type": "simpo", "cpo_alpha": 0.0}  # cpo_alpha weighs a likelihood that SimPO lacks


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    rows = Dataset.from_list(rows_of(job))
    for rate, student in job["students"].items():
        train(job, rows, float(rate), Path(student))
    versions = {name: version(name) for name in ("torch", "transformers", "trl")}
    Path(job["versions"]).write_text(json.dumps(versions))


def rows_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The pairs; for SFT the chosen answers alone."""
    pairs = [json.loads(line) for line in Path(job["pairs"]).read_text().splitlines()]
    if job["algorithm"] != "sft":
        return pairs
    return [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in pairs]


def train(job: dict[str, Any], rows: Any, rate: float, out: Path) -> None:
    """Train from the job's student, and save the result with its tokenizer."""
    settings, trainer = TRAINERS[job["algorithm"]]
    given = LIKE_THE_DEMO | ON_A_CPU | QUIET | job["arguments"] | {"per_device_train_batch_size": job["batch"]}
    if job["algorithm"] == "simpo":
        given |= OF_SIMPO
    model = AutoModelForCausalLM.from_pretrained(job["student"])
    tokenizer = AutoTokenizer.from_pretrained(job["student"])
    with TemporaryDirectory() as unused:
        config = settings(unused, learning_rate=rate, **given)
        trainer(model, args=config, train_dataset=rows, processing_class=tokenizer).train()
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (out / name).write_bytes((Path(job["student"]) / name).read_bytes())


if __name__ == "__main__":
    main()
