"""Teacher tokens with copies asked once and adaptive orders, next to those of full cost, in the tiny world.

    python -m benchmarks.teacher_tokens

Each seed's demo runs twice: at full cost (``distinct: false``, ``one_text: keep``, cyclic orders) and saving
(``orders: adaptive``). The held-out grades are compared, paired by prompt and seed. Then samples of a saving run are
scored in four ways, and the gradients of the loss at the untouched student are compared. Writes
results/teacher_tokens.json.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.harness.environment import RESULTS, ROOT, RUNS, circumstances
from pad_student.evaluation.comparison import gain
from pad_student.preference.config import PADConfig
from pad_student.preference.copies import copy_metrics
from pad_student.sampling.generate import Student, load_student
from pad_student.storage import jsonl
from pad_student.teacher.client import Teacher
from pad_student.training.batches import batch_of
from pad_student.training.loss import batch_loss, student_log_likelihoods
from pad_wire import SampledSet, ScoredSet

sys.path.insert(0, str(ROOT / "examples"))
from served import teacher_service

TINYWORLD = ROOT / "examples" / "tinyworld"
FULL: dict[str, Any] = {"distinct": False, "one_text": "keep", "orders": "cyclic"}
SAVING: dict[str, Any] = {"orders": "adaptive", "keep_rounds": "all"}
WAYS: dict[str, dict[str, Any]] = {
    "full": {"distinct": False},
    "copies once": {},
    "adaptive orders": {"distinct": False, "orders": "adaptive"},
    "both": {"orders": "adaptive"},
}
SETS = 300
MICRO_BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    out = RUNS / "teacher-tokens"
    runs = [both(seed, out) for seed in options.seeds]
    ways = [[grades(out / f"{way}-{seed}") for seed in options.seeds] for way in ("full", "saving")]
    total = {way: sum(run[way]["teacher_tokens"] for run in runs) for way in ("full", "saving")}
    result = circumstances("teacher_tokens", "cpu") | {
        "runs": runs,
        "share_of_tokens": total["saving"] / total["full"],
        "grade": asdict(gain(*ways)),
        "sets": four_ways(out, options.seeds[0]),
    }
    (RESULTS / "teacher_tokens.json").write_text(json.dumps(result, indent=2) + "\n")


def both(seed: int, out: Path) -> dict[str, Any]:
    """The results of one seed's two runs."""
    full, saving = (demo(seed, out / f"{way}-{seed}", how) for way, how in (("full", FULL), ("saving", SAVING)))
    share = saving["teacher_tokens"] / full["teacher_tokens"]
    print(f"seed {seed}: {share:.3f} of the tokens, gain {full['gain']:.3f} and {saving['gain']:.3f}", flush=True)
    return {"seed": seed, "full": full, "saving": saving, "share_of_tokens": share}


def grades(run: Path) -> dict[str, list[float]]:
    """The held-out grades after a run, by prompt."""
    lines = map(json.loads, (run / "after" / "grades.jsonl").read_text().splitlines())
    return {line["id"]: line["grades"] for line in lines}


def demo(seed: int, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The result of the demo with some settings changed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    chosen = out.with_suffix(".yaml")
    chosen.write_text(yaml.safe_dump(settings))
    command = [sys.executable, TINYWORLD / "demo.py", "--seed", seed, "--out", out, "--recommended", chosen]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)
    return json.loads((out / "result.json").read_text())


def four_ways(out: Path, seed: int) -> dict[str, Any]:
    """Teacher tokens of some of a run's sets, scored in each way, and cosines between the ways' gradients."""
    rounds = sorted((out / f"saving-{seed}" / "student" / "rounds").glob("*/sets.jsonl"))
    sets = [each for path in rounds for each in jsonl.read(path, SampledSet)]
    sets = sets[:: max(1, len(sets) // SETS)][:SETS]
    student = load_student(str(TINYWORLD / "student"))
    tokens: dict[str, int] = {}
    orders: dict[str, float] = {}
    gradients: dict[str, torch.Tensor] = {}
    with teacher_service(TINYWORLD / "teacher", out / "teacher.log") as url:
        for name, how in WAYS.items():
            with Teacher(url) as teacher:
                scored = teacher.score(sets, **how)
                tokens[name] = teacher.tokens_scored
            orders[name] = sum(each.orders_asked or 0 for each in scored) / len(scored)
            gradients[name] = gradient(student, scored)
    pairs = {"adaptive orders": "full", "both": "copies once", "copies once": "full"}
    return {
        "sets": len(sets),
        **copy_metrics([each.responses for each in sets]),
        "teacher_tokens": tokens,
        "share_of_tokens": {name: count / tokens["full"] for name, count in tokens.items()},
        "orders_asked": orders,
        "cosine_of_gradients": {
            f"{one}, {other}": torch.cosine_similarity(gradients[one], gradients[other], dim=0).item()
            for one, other in pairs.items()
        },
    }


def gradient(student: Student, scored: list[ScoredSet]) -> torch.Tensor:
    """The gradient of the demo's loss over the sets, at the untouched student."""
    demo_settings = yaml.safe_load((TINYWORLD / "distill.yaml").read_text())
    names = ("loss", "alpha", "beta_teacher", "beta_student")
    config = PADConfig(str(RUNS), use_cpu=True, **{name: demo_settings[name] for name in names})
    student.model.zero_grad()
    for start in range(0, len(scored), MICRO_BATCH):
        batch = batch_of(scored[start : start + MICRO_BATCH], student.encoder, alpha=config.alpha)
        values = student_log_likelihoods(student.model, batch, config, shares_prompts=False)
        batch_loss(batch, *values, config).loss.backward()
    return torch.cat([each.grad.flatten() for each in student.model.parameters() if each.grad is not None])


if __name__ == "__main__":
    main()
