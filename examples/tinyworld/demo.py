"""``make demo``: serve the tiny teacher, grade the tiny student, distil over HTTP, grade again, write result.json."""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import yaml
from served import run, teacher_service

from pad_student.commands.common import connect
from pad_student.commands.settings import TeacherAccess


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recommended", type=Path, help="settings that an audit recommends, over distill.yaml's")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    began = time.monotonic()
    with teacher_service(HERE / "teacher", options.out / "teacher.log") as url:
        before = grade(HERE / "student", options.out / "before", options.seed)
        distil(url, options.out / "student", options.seed, options.recommended)
        after = grade(options.out / "student", options.out / "after", options.seed)
        with connect(TeacherAccess(teacher=[url])) as teacher:
            tokens = sum(job.total_tokens for job in teacher.usage().jobs)
    result = {
        "grade_before": before["gold_score"],
        "grade_after": after["gold_score"],
        "gain": after["gold_score"] - before["gold_score"],
        "standard_error_before": before["standard_error"],
        "standard_error_after": after["standard_error"],
        "heldout_prompts": before["n"],
        "seed": options.seed,
        "wall_seconds": time.monotonic() - began,
        "teacher_tokens": tokens,
    }
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"\nmean grade of held-out samples: {before['gold_score']:.3f} before, {after['gold_score']:.3f} after"
        f" ({result['gain']:+.3f}); {result['wall_seconds']:.0f} s, {tokens:,} teacher tokens"
        f"\n{options.out / 'result.json'}"
    )
    return 0


def distil(url: str, out: Path, seed: int, recommended: Path | None = None) -> None:
    """Train the student with the settings of ``distill.yaml``; paths do not depend on the working directory."""
    settings = HERE / "distill.yaml"
    if recommended:
        chosen = yaml.safe_load(settings.read_text()) | yaml.safe_load(recommended.read_text())
        settings = out.parent / "distill.yaml"
        settings.write_text(yaml.safe_dump(chosen))
    paths = ["--model", HERE / "student", "--prompts", HERE / "prompts.jsonl", "--output-dir", out]
    run("distill", settings, "--teacher", url, *paths, "--seed", seed)


def grade(model: Path, out: Path, seed: int) -> dict[str, float]:
    """Mean grade of the model's responses to held-out prompts, by the world's own rule."""
    what = ["--grader", f"{HERE / 'grade.py'}:grade", "--model", model, "--prompts", HERE / "heldout.jsonl"]
    how = ["-n", 4, "--max-new-tokens", 24, "--batch-size", 100, "--seed", seed]
    run("eval", "grade", *what, *how, "--out", out)
    return json.loads((out / "result.json").read_text())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
