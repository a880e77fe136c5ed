"""``make demo-real``: distil a real student from a real teacher, and measure it before and after.

    python examples/real/demo.py                                 # makes the models of make_models.py first
    python examples/real/demo.py --student DIR_OR_HUB_ID --teacher DIR_OR_HUB_ID
    python examples/real/demo.py --quick --out runs/quick                        # a few minutes, shows no gain

It samples held-out responses before and after training. Rules that a program checks grade them, and so does the
teacher's reward. It writes OUT/result.json: each gain, paired by prompt, with its 95 % bootstrap interval. The same
command continues an interrupted run; another one needs another OUT.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import yaml
from served import run, teacher_service

MADE = ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct")
SCORED = 4  # of the samples: the teacher's reward changes more than its error, and the teacher is the slower model
QUICK = {"steps": 10, "prompts_per_step": 4, "tokens": 16, "heldout": 4, "samples": 4, "audit_minutes": 0.3}
SIZE = ("steps", "prompts_per_step", "tokens", "heldout", "samples")
DECISIVE = (*SIZE, "normalization", "unconditional_weight", "seed")  # other values: another run
MEASURES = ("rules_kept", "teacher_reward", "teacher_log_likelihood", "characters")


def main() -> int:
    options = parsed()
    made = models(options)
    options.out.mkdir(parents=True, exist_ok=True)
    bind(options, made)
    heldout = options.out / "heldout.jsonl"
    heldout.write_text("".join((HERE / "heldout.jsonl").read_text().splitlines(keepends=True)[: options.heldout]))
    began = time.monotonic()
    with teacher_service(made[1], options.out / "teacher.log", start_seconds=600) as url:
        if options.audit_minutes:
            run("audit", "--teacher", url, "--minutes", options.audit_minutes, "--out", options.out / "audit")
        before = measured(url, made[0], heldout, options.out / "before", options)
        distil(url, made[0], options)
        after = measured(url, options.out / "student", heldout, options.out / "after", options)
    result = compared(before, after) | {
        "student": Path(made[0]).name,
        "teacher": Path(made[1]).name,
        "heldout_prompts": len(before["rules_kept"]),
        "samples_a_prompt": options.samples,
        "scored_samples_a_prompt": SCORED,
        "steps": options.steps,
        "normalization": options.normalization,
        "unconditional_weight": options.unconditional_weight if options.normalization == "relative" else 0.0,
        "seed": options.seed,
        "seconds_of_this_start": round(time.monotonic() - began),
    }
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print("\n" + summary(result) + f"\n{options.out / 'result.json'}")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="a directory or a hub id; by default one made from a wheel")
    parser.add_argument("--teacher", help="a directory or a hub id; by default one made from wheels")
    parser.add_argument("--models", type=Path, default=Path("runs/real-models"), help="where made models are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/demo-real"))
    usual = settings()
    parser.add_argument("--steps", type=int, default=usual["max_steps"])
    parser.add_argument("--prompts-per-step", type=int, default=usual["prompts_per_step"])
    parser.add_argument("--tokens", type=int, default=usual["max_response_tokens"], help="of a response, at most")
    parser.add_argument("--normalization", choices=("mean", "relative"), default="relative", help="of the reward")
    parser.add_argument("--unconditional-weight", type=float, default=0.6, help="of the relative reward, up to 1")
    parser.add_argument("--heldout", type=int, default=80, help="held-out prompts to measure with")
    parser.add_argument("--samples", type=int, default=16, help="of each held-out prompt, before and after")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--audit-minutes", type=float, default=0.0, help="audit the teacher first, for about so long")
    parser.add_argument("--quick", action="store_true", help=f"try everything once: {QUICK}")
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    if options.steps < 1 or options.heldout < 2:
        parser.error("give at least one step and two held-out prompts")
    return options


def settings() -> dict[str, Any]:
    return yaml.safe_load((HERE / "distill.yaml").read_text())


def models(options: argparse.Namespace) -> tuple[str, str]:
    """Student and teacher, made if they are not given."""
    if not (options.student and options.teacher):
        if not all((options.models / name / "config.json").exists() for name in MADE) and not find_spec("gguf"):
            sys.exit("making the models needs gguf (pip install gguf); or give --student and --teacher")
        from make_models import make

        make(options.models)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    student, teacher = (str((options.models / name).resolve()) for name in MADE)
    return options.student or student, options.teacher or teacher


def bind(options: argparse.Namespace, made: tuple[str, str]) -> None:
    """Refuse to continue another run in the same directory."""
    from pad_student.errors import OtherRun
    from pad_student.storage.run_directory import bind_to_settings

    decisive = {"student": made[0], "teacher": made[1], "settings": settings()}
    decisive |= {name: getattr(options, name) for name in DECISIVE}
    try:
        bind_to_settings(options.out / "settings.json", decisive)
    except OtherRun as error:
        sys.exit(str(error))


def distil(url: str, student: str, options: argparse.Namespace) -> None:
    """Train the student with the settings of ``distill.yaml``."""
    what = ["--model", student, "--prompts", HERE / "prompts.jsonl", "--output-dir", options.out / "student"]
    how = ["--max-steps", options.steps, "--normalization", options.normalization, "--seed", options.seed]
    how += ["--unconditional-weight", options.unconditional_weight]
    how += ["--prompts-per-step", options.prompts_per_step, "--max-response-tokens", options.tokens]
    run("distill", HERE / "distill.yaml", "--teacher", url, *what, *how)


def measured(
    url: str, model: str | Path, prompts: Path, out: Path, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Sample held-out responses and grade them; each measure by prompt."""
    what = ["--grader", f"{HERE / 'rules.py'}:grade", "--model", model, "--prompts", prompts]
    how = ["-n", options.samples, "--max-new-tokens", options.tokens, "--seed", options.seed]
    run("eval", "grade", *what, *how, "--out", out)
    some, scored = out / "some.jsonl", out / "scored.jsonl"
    some.write_text("".join(first_responses(line) for line in (out / "responses.jsonl").read_text().splitlines()))
    reward = ["--alpha", 0, *(["--unconditional"] if options.normalization == "relative" else [])]
    run("score", "--teacher", url, "--sets", some, "--out", scored, *reward)
    sets = [json.loads(line) for line in scored.read_text().splitlines()]
    return means(sets, lines_by_id(out / "grades.jsonl"), options.unconditional_weight)


def first_responses(line: str) -> str:
    """A line of a sets file with its first ``SCORED`` responses."""
    sampled = json.loads(line)
    return json.dumps(sampled | {"responses": sampled["responses"][:SCORED]}) + "\n"


def lines_by_id(path: Path) -> dict[str, Any]:
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


def means(
    scored: list[dict[str, Any]], grades: dict[str, Any], unconditional_weight: float = 1.0
) -> dict[str, dict[str, float]]:
    """Each measure's mean over the samples of each prompt.

    The teacher's reward is the mean log-likelihood, less a share of that after an empty request if it was asked for.
    """
    values: dict[str, dict[str, float]] = {name: {} for name in MEASURES}
    for each in scored:
        responses = each["responses"]
        values["rules_kept"][each["id"]] = grades[each["id"]]["mean"]
        likelihoods = [response["log_likelihood"] / response["tokens"] for response in responses]
        alone = [response.get("unconditional_log_likelihood", 0.0) / response["tokens"] for response in responses]
        values["teacher_reward"][each["id"]] = fmean(likelihoods) - unconditional_weight * fmean(alone)
        values["teacher_log_likelihood"][each["id"]] = fmean(likelihoods)
        values["characters"][each["id"]] = fmean(len(response["text"]) for response in responses)
    return values


def compared(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The paired gain of each measure, and by what share the responses became longer."""
    from pad_student.evaluation.bootstrap import paired_gain

    gains = {name: paired_gain(before[name], after[name]) for name in MEASURES}
    length = gains["characters"]
    return {name: asdict(gain) for name, gain in gains.items()} | {"longer_by": length.after / length.before - 1}


def summary(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    names = {"rules_kept": "rules kept", "teacher_reward": "teacher's reward"}
    if result["normalization"] == "relative":
        names["teacher_log_likelihood"] = "teacher's mean log-likelihood"
    lines = [
        f"{name}: {result[key]['before']:.3f} before, {result[key]['after']:.3f} after, {result[key]['gain']:+.3f}"
        f" (95 % interval {result[key]['low']:+.3f} to {result[key]['high']:+.3f})"
        for key, name in names.items()
    ]
    prompts = f"{result['heldout_prompts']} held-out prompts, {result['samples_a_prompt']} samples each"
    return "\n".join([*lines, f"mean length {result['longer_by']:+.1%}; {prompts}"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
