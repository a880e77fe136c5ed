"""Measure teacher and student on the held-out prompts; prints the numbers and writes measured.json.

Run it as ``python examples/tinyworld/check_models.py``.
"""

import argparse
import json
import statistics
from pathlib import Path

import measuring
import torch
import world
from learning import sample
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from pad_wire.chat import ChatEncoder

HERE = Path(__file__).parent
RESPONSES, TEMPERATURE = 4, 0.8


def load(folder: Path) -> tuple[PreTrainedModel, ChatEncoder]:
    """A model and its encoder, by the ordinary classes."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, ChatEncoder.of(AutoTokenizer.from_pretrained(folder))


def measure(folder: Path) -> dict[str, object]:
    """Every number that the README quotes."""
    prompts = [json.loads(line)["prompt"] for line in (folder / "heldout.jsonl").read_text().splitlines()]
    student, student_encoder = load(folder / "student")
    teacher, teacher_encoder = load(folder / "teacher")

    def graded(samples: measuring.Samples) -> list[list[float]]:
        return [world.graded(p, [text for text, _ in row]) for p, row in zip(prompts, samples, strict=True)]

    torch.manual_seed(0)
    samples = sample(student, student_encoder, prompts, RESPONSES, TEMPERATURE)
    grades = graded(samples)
    likelihoods = measuring.mean_log_likelihoods(teacher, teacher_encoder, prompts, samples)
    choices = measuring.choices(teacher, teacher_encoder, prompts, samples)
    selections = [choice.selection_probabilities for choice in choices]
    own = sample(teacher, teacher_encoder, prompts, RESPONSES, TEMPERATURE)
    return {
        "pairs_ordered_by_likelihood": measuring.pairs_ordered_rightly(grades, likelihoods),
        "pairs_ordered_by_multiple_choice": measuring.pairs_ordered_rightly(grades, selections),
        "label_mass": round(statistics.fmean(choice.label_mass for choice in choices), 5),
        "student_grade_sampled": measuring.mean_grades(grades),
        "student_grade_greedy": measuring.mean_grades(graded(sample(student, student_encoder, prompts, 1, 0))),
        "teacher_grade_sampled": measuring.mean_grades(graded(own)),
        "student_spread_within_prompt": round(statistics.fmean(statistics.pstdev(row) for row in grades), 4),
        "teacher_likelihood_spread": round(statistics.fmean(statistics.pstdev(r) for r in likelihoods), 4),
        "teacher_parameters": teacher.num_parameters(),
        "student_parameters": student.num_parameters(),
        "held_out_prompts": len(prompts),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, default=HERE, help="what to measure (default: this folder)")
    folder = arguments.parse_args().folder
    text = json.dumps(measure(folder), indent=2)
    print(text)
    (folder / "measured.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
