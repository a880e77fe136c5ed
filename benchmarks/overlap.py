"""How much of the teacher's time a run overlaps with the student's. Writes results/overlap.json.

Teacher and student run in separate processes, each on its own core, with the embedded models. Each case is a whole
run of ``PADTrainer`` in a new process against a new service, timed without imports and loading:

- student alone: recorded scores are there immediately;
- teacher alone: the recorded sets are scored as a stream. ``seconds/client`` is the client's own work, which the
  student's core does;
- in turn: a round is sampled, then scored, then trained on;
- staleness 0 and staleness 1: the trainer with its defaults.

Two busy cores are each slower than one, because they share memory, caches and clock rate. The case "both alone at
once" runs the first two at the same time in processes that exchange nothing: the time of a run with perfect overlap.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.service_process import pad_teacher

TINY = ROOT / "examples" / "tinyworld"
TEACHER_CORE, STUDENT_CORE = 0, 1
ROUNDS = 3
STEPS, PROMPTS, BATCH = 8, 96, 8  # BATCH prompts are sampled, sent and trained on together
ALONE = ("student alone", "teacher alone")
AT_ONCE = "both alone at once"
CASES = {"staleness 0": 0, **dict.fromkeys(ALONE, 0), AT_ONCE: 0, "in turn": 0, "staleness 1": 1}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
        return
    found: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(ROUNDS):
            for case in CASES:
                found[case].append(run(case, Path(folder), round_))
                print(f"{case:14}", json.dumps(found[case][-1]), flush=True)
    report(found)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    medians = {case: median(each["wall"] for each in values) for case, values in found.items()}
    larger = max(medians["student alone"], medians["teacher alone"])
    ratios = {case: round(seconds / larger, 3) for case, seconds in medians.items()}
    over_both = {case: round(seconds / medians[AT_ONCE], 3) for case, seconds in medians.items()}
    sizes = {"steps": STEPS, "prompts_a_step": PROMPTS, "n": 4, "sampled_sent_and_trained_at_once": BATCH}
    result = {
        "command": "python -m benchmarks.overlap",
        **sizes,
        "wall_seconds_over_the_larger_alone": ratios,
        "wall_seconds_over_both_alone_at_once": over_both,
        "median_wall_seconds": medians,
        "runs": found,
    }
    (RESULTS / "overlap.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(ratios), json.dumps(over_both))


def run(case: str, folder: Path, round_: int) -> dict[str, float]:
    """Run one case in a new process against a new service, so that nothing is left from the previous case."""
    pinned = {"prefix": ("taskset", "-c", str(TEACHER_CORE)), "environment": environment()}
    with pad_teacher(folder / "teacher.log", "--model", TINY / "teacher", **pinned) as service:
        cases = ALONE if case == AT_ONCE else (case,)
        outs = [str(folder / f"{case} {round_}, {each}") for each in cases]
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.overlap", each, service.url, str(folder / "recorded"), out],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for each, out in zip(cases, outs, strict=True)
        ]
        for child in children:  # all are ready before any begins
            while (line := child.stdout.readline()) != "ready\n":  # type: ignore[union-attr]
                if not line:
                    raise RuntimeError(f"{case}: a process ended before it began")
        for child in children:
            child.stdin.write("go\n")  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
        found = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    if case != AT_ONCE:
        return found[0]
    return {
        "wall": max(each["wall"] for each in found),
        **dict(zip(ALONE, (each["wall"] for each in found), strict=True)),
    }


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def measure(case: str, url: str, recorded: str, out: str) -> dict[str, float]:
    """Measure one case, in the student's process."""
    os.sched_setaffinity(0, {STUDENT_CORE})
    from pad_student.storage import jsonl
    from pad_student.teacher.client import Teacher
    from pad_wire import SampledSet

    with Teacher(url, job="overlap") as teacher:
        teacher.model()
        warm = [SampledSet(id=f"warm{k}", prompt=f"say {k}.", responses=["yes.", "no."]) for k in range(BATCH)]
        teacher.score(warm)
        if case == "teacher alone":
            paths = sorted(Path(recorded).glob("*/sets.jsonl"))
            sets = [each for path in paths for each in jsonl.read(path, SampledSet)]
            begin_together()
            begin, used = time.monotonic(), time.process_time()
            list(teacher.score_stream(sets, sets_per_request=BATCH))
            wall, client = time.monotonic() - begin, time.process_time() - used
            return {"wall": round(wall, 3), "sets": len(sets), "seconds/client": round(client, 3)}
        scorers = {"student alone": lambda: Recorded(Path(recorded)), "in turn": lambda: InTurn(teacher)}
        found = train(scorers.get(case, lambda: teacher)(), CASES[case], Path(out))
    if not Path(recorded).exists():
        (Path(out) / "rounds").rename(recorded)
    return found


def train(teacher: Any, staleness: int, out: Path) -> dict[str, float]:
    from pad_student.data.prompts import read_prompts
    from pad_student.preference.config import PADConfig
    from pad_student.sampling.generate import load_student
    from pad_student.training.trainer import PADTrainer

    student = load_student(str(TINY / "student"), dtype="float32")
    config = PADConfig(
        output_dir=str(out),
        max_steps=STEPS,
        staleness=staleness,
        max_response_tokens=24,
        sampling_batch_size=BATCH,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=PROMPTS // BATCH,
        learning_rate=1e-4,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    prompts = read_prompts(TINY / "prompts.jsonl")
    trainer = PADTrainer(student.model, config, prompts, student.encoder.tokenizer, teacher)
    begin_together()
    begin = time.monotonic()
    trainer.train()
    wall = time.monotonic() - begin
    spent: Counter[str] = Counter()
    for line in (out / "costs.jsonl").read_text().splitlines():
        spent.update({name: value for name, value in json.loads(line).items() if name.startswith("seconds/")})
    return {"wall": round(wall, 3), **{name: round(value, 3) for name, value in spent.items()}}


def begin_together() -> None:
    """Report that everything is loaded, and wait for the order to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


class Recorded:
    """A teacher that answers from recorded scores."""

    def __init__(self, folder: Path) -> None:
        from pad_student.storage import jsonl
        from pad_wire import ScoredSet

        paths = folder.glob("*/scored.jsonl")
        self._scored = {each.id: each for path in paths for each in jsonl.read(path, ScoredSet)}

    def score_stream(self, sets: Iterable[Any], **_: Any) -> Iterator[Any]:
        return (self._scored[each.id] for each in sets)


class InTurn:
    """A teacher that scores only after all sets are sampled, and answers only after all are scored."""

    def __init__(self, teacher: Any) -> None:
        self._teacher = teacher

    def score_stream(self, sets: Iterable[Any], **options: Any) -> Iterator[Any]:
        sampled = list(sets)
        yield from list(self._teacher.score_stream(sampled, **options))


if __name__ == "__main__":
    main()
