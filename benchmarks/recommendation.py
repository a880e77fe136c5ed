"""Whether the settings that an audit recommends reach the held-out gain of the default ones, in the tiny world.

    make bench
    python -m benchmarks.recommendation

The audit gets what a user has: sets of the student's own samples, best first by a judge, here the world's grader.
Then the demo runs with those settings and three seeds; ``make bench`` has run it with the default ones. Gains are
paired by held-out prompt, with 95 % bootstrap intervals. Writes results/recommendation.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness.environment import RESULTS, ROOT, RUNS, circumstances
from pad_student.evaluation.bootstrap import paired_gain

sys.path.insert(0, str(ROOT / "examples"))
from served import run, teacher_service

TINYWORLD = ROOT / "examples" / "tinyworld"
SEEDS = (0, 1, 2)
PROMPTS = 160  # some of their sets have four equal grades, and tell nothing


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    out = RUNS / "recommendation"
    out.mkdir(parents=True, exist_ok=True)
    recommended = audited(graded_sets(out), out)
    runs = [compared(seed, out, recommended) for seed in SEEDS]
    result = circumstances("recommendation", "cpu") | {
        "recommended": yaml.safe_load(recommended.read_text()),
        "runs": runs,
    }
    (RESULTS / "recommendation.json").write_text(json.dumps(result, indent=2) + "\n")
    for each in runs:
        gain = each["difference"]
        print(f"seed {each['seed']}: {each['default']:.3f} by default, {each['recommended']:.3f} recommended; {gain}")


def graded_sets(out: Path) -> Path:
    """Sets of the untouched student, best response first; those of four equal grades are left out."""
    prompts, graded, sets = out / "prompts.jsonl", out / "graded", out / "sets.jsonl"
    prompts.write_text("".join((TINYWORLD / "prompts.jsonl").read_text().splitlines(keepends=True)[:PROMPTS]))
    what = ["--grader", f"{TINYWORLD / 'grade.py'}:grade", "--model", TINYWORLD / "student", "--prompts", prompts]
    run("eval", "grade", *what, "-n", 4, "--max-new-tokens", 24, "--out", graded)
    grades = by_id(graded / "grades.jsonl")
    lines: list[str] = []
    for line in (graded / "responses.jsonl").read_text().splitlines():
        sampled: dict[str, Any] = json.loads(line)
        of = grades[sampled["id"]]["grades"]
        order = sorted(range(len(of)), key=lambda k: -of[k])
        if of[order[0]] > of[order[-1]]:
            lines.append(json.dumps(sampled | {"responses": [sampled["responses"][k] for k in order]}) + "\n")
    sets.write_text("".join(lines))
    return sets


def audited(sets: Path, out: Path) -> Path:
    """The settings that an audit of the tiny teacher recommends."""
    with teacher_service(TINYWORLD / "teacher", out / "teacher.log") as url:
        run("audit", "--teacher", url, "--sets", sets, "--minutes", 1, "--out", out / "audit")
    return out / "audit" / "recommended.yaml"


def compared(seed: int, out: Path, recommended: Path) -> dict[str, Any]:
    """Both demos of one seed: each mean held-out grade, and their difference paired by prompt."""
    at = out / f"seed-{seed}"
    demo = [sys.executable, TINYWORLD / "demo.py", "--seed", seed, "--out", at, "--recommended", recommended]
    subprocess.run([str(part) for part in demo], cwd=ROOT, check=True)
    found = paired_gain(grades(ROOT / "runs" / f"demo-seed-{seed}"), grades(at))
    difference = {"gain": found.gain, "low": found.low, "high": found.high}
    return {"seed": seed, "default": found.before, "recommended": found.after, "difference": difference}


def grades(demo: Path) -> dict[str, float]:
    """The mean grade of each held-out prompt after a demo."""
    return {key: line["mean"] for key, line in by_id(demo / "after" / "grades.jsonl").items()}


def by_id(path: Path) -> dict[str, Any]:
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


if __name__ == "__main__":
    main()
