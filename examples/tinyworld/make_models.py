"""Make every file of this folder that is not source: prompts, tokenizers, student and teacher. Seeded; one command.

Run it as ``python examples/tinyworld/make_models.py``.
"""

import argparse
import json
import random
from pathlib import Path

import torch
import world
from learning import sample, save
from make_student import STUDENT, imitate
from make_teacher import Pool, train_teacher
from make_tokenizers import student_tokenizer, teacher_tokenizer

from pad_wire.chat import ChatEncoder

HERE = Path(__file__).parent
PROMPTS, HELD_OUT = 2000, 400
POOL_PROMPTS, POOL_RESPONSES = 4000, 6


def write_prompts(folder: Path, seed: int) -> None:
    """The prompts to distil with, and those to measure with, which no training ever sees."""
    rng = random.Random(seed)
    for name, count, held_out in (("prompts", PROMPTS, False), ("heldout", HELD_OUT, True)):
        prompts = world.distinct_instructions(rng, count, held_out)
        lines = [json.dumps({"id": f"{name}-{i:04d}", "prompt": p}) for i, p in enumerate(prompts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def student_pool(model: torch.nn.Module, encoder: ChatEncoder, seed: int) -> Pool:
    """The student's own responses, for the teacher to learn to judge."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    prompts = [world.training_instruction(rng) for _ in range(POOL_PROMPTS)]
    samples = sample(model, encoder, prompts, POOL_RESPONSES, temperature=0.8)
    return [(p, [text for text, _ in row]) for p, row in zip(prompts, samples, strict=True)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--folder", type=Path, default=HERE, help="where to write (default: this folder)")
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    write_prompts(options.folder, options.seed)
    tokenizer = student_tokenizer()
    student = imitate(tokenizer, options.seed, STUDENT)
    save(student, tokenizer, options.folder / "student")
    pool = student_pool(student, ChatEncoder.of(tokenizer), options.seed)
    tokenizer = teacher_tokenizer()
    save(train_teacher(tokenizer, pool, options.seed), tokenizer, options.folder / "teacher")


if __name__ == "__main__":
    main()
