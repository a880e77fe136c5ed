"""Make an aligned teacher and its reference, which share the student's tokenizer: for DCKD and ADPA. One command.

The reference imitates answers of which half are flawed. The aligned one is the reference after DPO (TRL's) on pairs
of its own answers, graded by the world's rule; ``pairs.jsonl`` keeps these for the student. Seeded. It needs
``pip install trl``, and ends with a check, which goes to ``measured_aligned.json``. Run it as
``python examples/tinyworld/make_aligned.py``.
"""

import argparse
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import world
from learning import sample, save
from make_student import Imitation, imitate
from measuring import Samples, mean_grades
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from pad_wire.chat import ChatEncoder

HERE = Path(__file__).parent
STYLES = world.STUDENT_STYLES | {"best": 75}  # each second answer is the best one
REFERENCE = Imitation("reference", STYLES, 128, 320, 32, steps=600, batch=64)  # twice the student's weights
PAIR_PROMPTS, RESPONSES, TEMPERATURE = 2000, 6, 1.0
DPO = {"beta": 0.5, "learning_rate": 2e-4, "max_steps": 120, "per_device_train_batch_size": 32}


def graded_pairs(model: Qwen3ForCausalLM, tokenizer: Any, seed: int) -> list[dict[str, Any]]:
    """The model's own best and worst answer to each prompt; a prompt whose answers have one grade gives none."""
    rng = random.Random(seed + 1)
    torch.manual_seed(seed + 1)
    prompts = world.distinct_instructions(rng, PAIR_PROMPTS, held_out=False)
    samples = sample(model, ChatEncoder.of(tokenizer), prompts, RESPONSES, TEMPERATURE)
    pairs: list[dict[str, Any]] = []
    for prompt, row in zip(prompts, samples, strict=True):
        texts = [text for text, ended in row if ended]
        grades = world.graded(prompt, texts)
        if len(set(grades)) > 1:
            best, worst = (texts[grades.index(extreme)] for extreme in (max(grades), min(grades)))
            turns = {
                "prompt": [("user", prompt)],
                "chosen": [("assistant", best)],
                "rejected": [("assistant", worst)],
            }
            pairs.append(
                {name: [{"role": role, "content": text} for role, text in turn] for name, turn in turns.items()}
            )
    return pairs


def align(folder: Path, tokenizer: Any, pairs: list[dict[str, Any]], seed: int) -> Any:
    """The model in ``folder`` after DPO on the pairs."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    quiet = {"report_to": "none", "save_strategy": "no", "logging_steps": 20, "use_cpu": True, "bf16": False}
    model, reference = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    rows = Dataset.from_list(pairs)
    with TemporaryDirectory() as unused:
        config = DPOConfig(unused, seed=seed, gradient_checkpointing=False, **quiet, **DPO)
        DPOTrainer(model, reference, args=config, train_dataset=rows, processing_class=tokenizer).train()
    return model.eval()


def measure(folder: Path) -> dict[str, Any]:
    """The grades of both models' samples for the held-out prompts."""
    prompts = [json.loads(line)["prompt"] for line in (HERE / "heldout.jsonl").read_text().splitlines()]
    encoder = ChatEncoder.of(AutoTokenizer.from_pretrained(folder / "reference"))
    found: dict[str, Any] = {}
    for name in ("reference", "aligned"):
        model = AutoModelForCausalLM.from_pretrained(folder / name).eval()
        torch.manual_seed(0)
        samples: Samples = sample(model, encoder, prompts, 4, 0.8)
        rows = zip(prompts, samples, strict=True)
        found[f"{name}_grade_sampled"] = mean_grades([world.graded(p, [text for text, _ in row]) for p, row in rows])
        found[f"{name}_parameters"] = model.num_parameters()
    return found | {"held_out_prompts": len(prompts)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--folder", type=Path, default=HERE, help="where to write (default: this folder)")
    options = arguments.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(HERE / "student")
    reference = imitate(tokenizer, options.seed, REFERENCE)
    save(reference, tokenizer, options.folder / "reference")
    pairs = graded_pairs(reference, tokenizer, options.seed)
    (options.folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    print(f"{len(pairs)} pairs of {PAIR_PROMPTS} prompts")
    save(align(options.folder / "reference", tokenizer, pairs, options.seed), tokenizer, options.folder / "aligned")
    text = json.dumps(measure(options.folder), indent=2)
    print(text)
    (options.folder / "measured_aligned.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
