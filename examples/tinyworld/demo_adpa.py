"""ADPA in the tiny world: serve the aligned teacher and its reference, grade the student, distil, grade it again.

Run it as ``python examples/tinyworld/demo_adpa.py``; it writes ``result.json`` under ``--out``.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from demo import grade
from served import run, teacher_service

SETTINGS = {
    "method": "adpa",
    "max_steps": 40,
    "prompts_per_step": 32,
    "n": 2,
    "max_response_tokens": 24,
    "learning_rate": 1e-3,
    "warmup_steps": 5,
    "sampling_batch_size": 32,
    "per_device_train_batch_size": 32,
}
SHOWN = ("loss", "loss/nll", "advantage/mean", "kl/sampled", "token_entropy/student")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-adpa"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out, began = options.out, time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with (
        teacher_service(HERE / "aligned", out / "teacher.log") as teacher,
        teacher_service(HERE / "reference", out / "reference.log") as reference,
    ):
        before = grade(HERE / "student", out / "before", options.seed)
        distil(teacher, reference, out / "student", options.seed)
        after = grade(out / "student", out / "after", options.seed)
    result = {
        "command": f"python examples/tinyworld/demo_adpa.py --seed {options.seed}",
        "machine": f"{platform.machine()}, CPU",
        "settings": SETTINGS,
        "grade_before": before["gold_score"],
        "grade_after": after["gold_score"],
        "standard_error_before": before["standard_error"],
        "standard_error_after": after["standard_error"],
        "heldout_prompts": before["n"],
        "wall_seconds": time.monotonic() - began,
        "steps": shown(out / "student" / "metrics.jsonl"),
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nmean grade of held-out samples: {before['gold_score']:.3f} before, {after['gold_score']:.3f} after")
    return 0


def distil(teacher: str, reference: str, out: Path, seed: int) -> None:
    """Train the student by ADPA from two services, on the pairs that aligned the teacher."""
    paths = ["--model", HERE / "student", "--prompts", HERE / "pairs.jsonl", "--output-dir", out]
    more = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", value)]
    run("distill", "--teacher", teacher, "--reference", reference, *paths, "--seed", seed, *more)


def shown(metrics: Path) -> dict[str, Any]:
    """The metrics of the first and the last step."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {name: {key: lines[at][key] for key in SHOWN} for name, at in (("first", 0), ("last", -1))}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
