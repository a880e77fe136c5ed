"""The grid of runs in the tiny world: each piece and seed is one file of results/evidence, and is run once.

    python -m benchmarks.evidence --minutes 50                 # what is missing, seed by seed, until the time is up
    python -m benchmarks.evidence --pieces vpd simpo --seeds 0 1
    python -m benchmarks.evidence.page                         # the tables of docs/evidence.md, from the files

All pieces of a seed begin with the same student and draw the same prompts; they differ in the settings of
``pieces.py`` alone. A file holds the mean grade of each held-out prompt, the teacher tokens, and the settings.
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.evidence.pieces import PIECES
from benchmarks.harness.environment import RESULTS, ROOT, RUNS, circumstances

sys.path.insert(0, str(ROOT / "examples"))
from served import run, teacher_service

from pad_student.teacher.client import Teacher

TINYWORLD = ROOT / "examples" / "tinyworld"
FILES = RESULTS / "evidence"
UNTOUCHED = "untouched"
HELD_OUT = TINYWORLD / "heldout.jsonl"


@dataclass(frozen=True)
class Source:
    """What a student is trained from: itself before, prompts, the teacher, and perhaps the teacher's reference."""

    student: Path = TINYWORLD / "student"
    prompts: Path = TINYWORLD / "prompts.jsonl"
    teacher: Path = TINYWORLD / "teacher"
    reference: Path | None = None


DEMO = Source()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", nargs="+", choices=list(PIECES), default=list(PIECES), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=50.0, help="begin no piece after so long")
    options = parser.parse_args()
    FILES.mkdir(exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    for seed in options.seeds:
        for name in (UNTOUCHED, *options.pieces):
            if file_of(name, seed).exists():
                continue
            if time.monotonic() > deadline:
                sys.exit("the time is up; the same command goes on")
            result = untouched(seed) if name == UNTOUCHED else trained(name, seed)
            file_of(name, seed).write_text(json.dumps(result, indent=1) + "\n")
            print(f"== {name}, seed {seed}: {result['mean']:.4f}", flush=True)


def file_of(name: str, seed: int) -> Path:
    """The result of a piece with a seed."""
    return FILES / f"{name}-seed-{seed}.json"


def untouched(seed: int) -> dict[str, Any]:
    """The grades of the student that every piece begins with."""
    return described({}) | graded(TINYWORLD / "student", empty(f"{UNTOUCHED}-{seed}"), seed)


def trained(name: str, seed: int) -> dict[str, Any]:
    """The grades of the student that a piece trained, and what its teacher scored for it."""
    at = empty(f"{name}-{seed}")
    student, tokens = distilled(PIECES[name].changes, at, seed)
    found = described(PIECES[name].changes) | {"teacher_tokens": tokens} | graded(student, at, seed)
    shutil.rmtree(at)
    return found


def distilled(changes: dict[str, Any], at: Path, seed: int, source: Source = DEMO) -> tuple[Path, int]:
    """A student trained with the demo's settings and changes of them, and the tokens that its teacher scored."""
    given = yaml.safe_load((TINYWORLD / "distill.yaml").read_text()) | changes | {"seed": seed}
    settings, student = at / "distill.yaml", at / "student"
    settings.write_text(yaml.safe_dump(given))
    paths = ["--model", source.student, "--prompts", source.prompts, "--output-dir", student]
    reference = ["--reference", str(source.reference)] if source.reference else []
    with teacher_service(source.teacher, at / "teacher.log", *reference) as url:
        run("distill", settings, "--teacher", url, *paths)
        return student, tokens_of(url)


def tokens_of(url: str) -> int:
    """The tokens that a teacher has scored for all jobs."""
    with Teacher(url) as teacher:
        return sum(job.total_tokens for job in teacher.usage().jobs)


def described(changes: dict[str, Any]) -> dict[str, Any]:
    """When and from what a result comes."""
    kept = {key: value for key, value in circumstances("evidence", "cpu").items() if key in ("date", "commit")}
    return kept | {"changes": changes}


def graded(model: Path, at: Path, seed: int, prompts: Path = HELD_OUT) -> dict[str, Any]:
    """The mean grade of a model's four samples of each prompt, by the world's own rule."""
    what = ["--grader", f"{TINYWORLD / 'grade.py'}:grade", "--model", model]
    how = ["-n", 4, "--max-new-tokens", 24, "--batch-size", 100, "--seed", seed]
    run("eval", "grade", *what, *how, "--prompts", prompts, "--out", at / "grades")
    lines = map(json.loads, (at / "grades" / "grades.jsonl").read_text().splitlines())
    grades = {line["id"]: line["mean"] for line in lines}
    return {"mean": sum(grades.values()) / len(grades), "grades": grades}


def empty(name: str) -> Path:
    """A new directory for one run."""
    at = RUNS / "evidence" / name
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    return at


if __name__ == "__main__":
    main()
