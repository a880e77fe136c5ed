"""The grid of methods and baselines in the tiny world: each row and seed is one file, and is run once.

    bash benchmarks/install_peers.sh trl                            # the environment of SFT, DPO and SimPO
    python -m benchmarks.evidence.methods --minutes 50              # what is missing, seed by seed
    python -m benchmarks.evidence.methods --methods dckd adpa --seeds 0 1
    python -m benchmarks.evidence.page                              # the tables of docs/evidence.md, from the files

The rows are those of ``method_pieces.py``. Students are graded as in the grid of settings. If a row has several
learning rates, its run of seed 0 trains with each, and takes the one with the best grade on 200 prompts that are
neither trained on nor among the held-out ones of the page. The other seeds take that rate.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.evidence.__main__ import (
    FILES,
    HELD_OUT,
    TINYWORLD,
    Source,
    described,
    distilled,
    empty,
    file_of,
    graded,
    run,
    teacher_service,
    tokens_of,
    trained,
)
from benchmarks.evidence.method_pieces import BATCH, METHODS, PAD, STEPS, WARMUP, Method
from benchmarks.evidence.pieces import DEFAULT
from benchmarks.harness.environment import ROOT, RUNS
from benchmarks.harness.registry import PREFERENCES

sys.path.insert(0, str(TINYWORLD))
import torch
import world

from pad_student.preference.rewards import calibrated_reward
from pad_student.storage import jsonl
from pad_wire import ScoredSet

METHOD_FILES = FILES / "methods"
KEPT = RUNS / "evidence" / "methods"
ALPHA = 0.8  # of the demo's settings
CHOICES = 200  # prompts that choose a learning rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=50.0, help="begin no row after so long")
    options = parser.parse_args()
    for folder in (METHOD_FILES, KEPT):
        folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    for seed in options.seeds:
        for name in options.methods:
            if path_of(name, seed).exists():
                continue
            if time.monotonic() > deadline:
                sys.exit("the time is up; the same command goes on")
            began = time.monotonic()
            result = trained(DEFAULT, seed) if name == PAD else compared(name, seed)
            path_of(name, seed).write_text(json.dumps(result, indent=1) + "\n")
            print(f"== {name}, seed {seed}: {result['mean']:.4f}, {time.monotonic() - began:.0f} s", flush=True)


def path_of(name: str, seed: int) -> Path:
    """The result of a row with a seed; PAD's is the one of the grid of settings."""
    return file_of(DEFAULT, seed) if name == PAD else METHOD_FILES / f"{name}-seed-{seed}.json"


def compared(name: str, seed: int) -> dict[str, Any]:
    """Train a row's student with each of its rates, or with the rate that seed 0 chose, and grade the best."""
    method, at = METHODS[name], empty(f"{name}-{seed}")
    rates = method.rates if seed == 0 or len(method.rates) == 1 else (chosen_rate(name),)
    train = by_trl if method.algorithm else by_distill
    students, tokens, versions = train(method, rates, at, seed)
    tried = {rate: chosen_by(student, at, seed) for rate, student in students.items()} if len(rates) > 1 else {}
    best = max(tried, key=lambda rate: tried[rate], default=next(iter(students)))
    found = described(method.settings) | {"learning_rate": best, "tried": tried, "versions": versions}
    found |= {"teacher_tokens": tokens[best]} | entropy(students[best]) | graded(students[best], at, seed)
    shutil.rmtree(at)
    return found


def entropy(student: Path) -> dict[str, Any]:
    """The first and last entropy of the student's next token in nats, over K + 1 bins; nothing if none was logged."""
    lines = student / "metrics.jsonl"
    logged = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    found = [line["token_entropy/student"] for line in logged if "token_entropy/student" in line]
    return {"token_entropy": {"first": found[0], "last": found[-1]}} if found else {}


def chosen_rate(name: str) -> float:
    """The learning rate of a row's run of seed 0."""
    if not path_of(name, 0).exists():
        sys.exit(f"seed 0 of {name} chooses its learning rate: run it first")
    return json.loads(path_of(name, 0).read_text())["learning_rate"]


Trained = tuple[dict[float, Path], dict[float, int], dict[str, str]]  # students and tokens by rate, versions


def by_distill(method: Method, rates: tuple[float, ...], at: Path, seed: int) -> Trained:
    """Students that ``distill`` trained, in one stage after the other."""
    students: dict[float, Path] = {}
    tokens = dict.fromkeys(rates, 0)
    for rate in rates:
        student = TINYWORLD / "student"
        for number, stage in enumerate(method.stages):
            here = at / f"{rate}-{number}"
            here.mkdir()
            reference = TINYWORLD / "reference" if stage.get("method") == "adpa" else None
            source = Source(student, prompts_of(method), TINYWORLD / method.teacher, reference)
            student, scored = distilled(stage | {"learning_rate": rate}, here, seed, source)
            tokens[rate] += scored
        students[rate] = student
    return students, tokens, {}


def prompts_of(method: Method) -> Path:
    """The file that a method's prompts are drawn from."""
    return TINYWORLD / ("pairs.jsonl" if method.data == "pairs" else "prompts.jsonl")


def by_trl(method: Method, rates: tuple[float, ...], at: Path, seed: int) -> Trained:
    """Students that TRL trained, all in one process of its own Python."""
    pairs, tokens = (TINYWORLD / "pairs.jsonl", 0) if method.data == "pairs" else pairs_of_sets(seed)
    students = {rate: at / f"{rate}" for rate in rates}
    job: dict[str, Any] = {
        "algorithm": method.algorithm,
        "arguments": method.arguments | {"seed": seed, "max_steps": STEPS, "warmup_steps": WARMUP},
        "batch": BATCH,
        "student": str(TINYWORLD / "student"),
        "pairs": str(pairs),
        "students": {str(rate): str(student) for rate, student in students.items()},
        "versions": str(at / "versions.json"),
    }
    (at / "job.json").write_text(json.dumps(job))
    contender = PREFERENCES["trl"]
    command = [contender.interpreter({}), "-m", f"benchmarks.contenders.{contender.module}", at / "job.json"]
    subprocess.run(command, cwd=ROOT, check=True)
    return students, dict.fromkeys(rates, tokens), json.loads((at / "versions.json").read_text())


def pairs_of_sets(seed: int) -> tuple[Path, int]:
    """The best and the worst of the untouched student's responses to each prompt, by the teacher; its tokens."""
    pairs, spent = KEPT / f"pairs-{seed}.jsonl", KEPT / f"tokens-{seed}.json"
    if not spent.exists():
        at = empty(f"sets-{seed}")
        how = ["-n", 4, "--max-new-tokens", 24, "--batch-size", 100, "--seed", seed, "--out", at / "sets.jsonl"]
        run("sample", "--model", TINYWORLD / "student", "--prompts", TINYWORLD / "prompts.jsonl", *how)
        with teacher_service(TINYWORLD / "teacher", at / "teacher.log") as url:
            files = ["--sets", at / "sets.jsonl", "--out", at / "scored.jsonl"]
            run("score", "--teacher", url, *files, "--alpha", ALPHA)
            tokens = tokens_of(url)
        sets = jsonl.read(at / "scored.jsonl", ScoredSet, whole=True)
        pairs.write_text("".join(json.dumps(pair) + "\n" for pair in map(pair_of, sets) if pair))
        spent.write_text(json.dumps(tokens))
    return pairs, json.loads(spent.read_text())


def pair_of(scored: ScoredSet) -> dict[str, Any] | None:
    """A set's best and worst finished response, by PAD's reward, as a row of TRL; None if they are one text."""
    responses = [each for each in scored.responses if each.finished]
    if len({each.text for each in responses}) < 2:
        return None
    rewards = calibrated_reward(
        torch.tensor([[each.log_likelihood for each in responses]]),
        torch.tensor([[each.tokens for each in responses]]),
        [[each.selection_probability for each in responses]],
        ALPHA,
    )[0]
    best, worst = (responses[int(at)].text for at in (rewards.argmax(), rewards.argmin()))
    if best == worst:
        return None
    texts = {"prompt": ("user", scored.prompt), "chosen": ("assistant", best), "rejected": ("assistant", worst)}
    return {name: [{"role": role, "content": text}] for name, (role, text) in texts.items()}


def chosen_by(student: Path, at: Path, seed: int) -> float:
    """The grade that chooses a learning rate: on prompts that no training and no table uses."""
    prompts = KEPT / "choices.jsonl"
    if not prompts.exists():
        told = {json.loads(line)["prompt"] for line in HELD_OUT.read_text().splitlines()}
        drawn = world.distinct_instructions(random.Random(1), CHOICES + len(told), held_out=True)
        rows = [{"id": str(number), "prompt": text} for number, text in enumerate(drawn) if text not in told]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows[:CHOICES]))
    here = at / f"choice-{student.parent.name}-{student.name}"
    return graded(student, here, seed, prompts)["mean"]


if __name__ == "__main__":
    main()
