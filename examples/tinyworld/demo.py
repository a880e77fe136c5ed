"""``make demo``: serve the tiny teacher, grade the tiny student, distil over HTTP, grade again, write result.json."""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Teacher and student take turns on the same cores: a waiting thread must not keep one busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tqdm import tqdm

from pad_student.commands import cli
from pad_student.commands.common import connect
from pad_student.commands.settings import TeacherAccess

HERE = Path(__file__).resolve().parent
START_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    began = time.monotonic()
    with teacher_service(options.out / "teacher.log") as url:
        before = grade(HERE / "student", options.out / "before", options.seed)
        distil(url, options.out / "student", options.seed)
        after = grade(options.out / "student", options.out / "after", options.seed)
        with connect(TeacherAccess(teacher=url)) as teacher:
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


@contextmanager
def teacher_service(log: Path) -> Iterator[str]:
    """A teacher service on a free port of this machine, up for as long as the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pad_teacher", "serve", "--model", str(HERE / "teacher"), "--port", str(port)]
    print("$ pad-teacher", *command[3:], flush=True)
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as server:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with tqdm(desc="the teacher is loading", bar_format="{desc} {elapsed}") as bar:
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{url}/v1/health/ready"):
                return
            time.sleep(0.2)
            bar.update()
    sys.exit(f"the teacher did not start; see {log}")


def distil(url: str, out: Path, seed: int) -> None:
    """Train the student with the settings of ``distill.yaml``; paths do not depend on the working directory."""
    paths = ["--model", HERE / "student", "--prompts", HERE / "prompts.jsonl", "--output-dir", out]
    run("distill", HERE / "distill.yaml", "--teacher", url, *paths, "--seed", seed)


def grade(model: Path, out: Path, seed: int) -> dict[str, float]:
    """Mean grade of the model's responses to held-out prompts, by the world's own rule."""
    what = ["--grader", f"{HERE / 'grade.py'}:grade", "--model", model, "--prompts", HERE / "heldout.jsonl"]
    how = ["-n", 4, "--max-new-tokens", 24, "--batch-size", 100, "--seed", seed]
    run("eval", "grade", *what, *how, "--out", out)
    return json.loads((out / "result.json").read_text())


def run(*arguments: object) -> None:
    """One ``pad-student`` command, in this process: torch is imported once."""
    words = [str(argument) for argument in arguments]
    print("$ pad-student", *words, flush=True)
    if status := cli.main(words):
        sys.exit(status)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
