"""How much faster a request is answered when all it asks was scored before. Writes cache.json.

    python -m benchmarks.cache

A real service process and HTTP on loopback. Each round posts sets that no round before has posted, and then the same
again; after the last round the service is stopped, and started again with the same data directory.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import torch

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.model import make_model, source_text

SETS, PROMPT, N, RESPONSE = 64, 64, 4, 32  # tokens: about, of the random model's tokenizer
ROUNDS, WARM = 3, 5  # rounds, and warm requests of each


def body(number: int) -> bytes:
    """One round's request."""
    source = source_text()

    def text(tokens: int, at: int) -> str:
        at += 10_007 * SETS * number
        return source[at : at + 3 * tokens].strip() + "."  # about three letters a token

    def one(at: int) -> dict[str, Any]:
        return {"prompt": text(PROMPT, at), "responses": [text(RESPONSE, at + 131 * j) for j in range(1, N + 1)]}

    sets = [one(10_007 * k) for k in range(SETS)]
    return json.dumps({"sets": sets}).encode()


@contextmanager
def serving(model: Path, data: Path) -> Iterator[httpx.Client]:
    """A client of a service that is ready."""
    log = data / "log"
    command = [sys.executable, "-m", "pad_teacher", "serve", "--model", model, "--port", "0", "--data", data]
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            with httpx.Client(base_url=ready(process, log), timeout=None, trust_env=False) as client:
                yield client
        finally:
            process.terminate()


def ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address of a service, once it is ready."""
    while process.poll() is None:
        listening = re.search(r'"url": ?"([^"]+)"', log.read_text())
        with suppress(httpx.TransportError):
            if listening and httpx.get(f"{listening[1]}/v1/health/ready", trust_env=False).status_code == 200:
                return listening[1]
        time.sleep(0.1)
    raise RuntimeError(f"the service stopped: {log.read_text()[-500:]}")


def seconds_of(client: httpx.Client, content: bytes) -> tuple[float, bytes]:
    """How long the reply took, and what was in it."""
    began = time.perf_counter()
    reply = client.post("/v1/likelihood", content=content)
    seconds = time.perf_counter() - began
    if reply.status_code != 200:
        raise RuntimeError(f"the service answered {reply.status_code}: {reply.text[:300]}")
    return seconds, reply.content


def engine_seconds(client: httpx.Client) -> float:
    """What the engine has taken so far."""
    found = re.search(r"^pad_batch_seconds_sum (\S+)", client.get("/metrics").text, re.MULTILINE)
    if not found:
        raise RuntimeError("the service's metrics have no pad_batch_seconds_sum")
    return float(found[1])


def measure(name: str, model: Path) -> dict[str, Any]:
    """Cold, warm and restarted."""
    cold: list[float] = []
    warm: list[float] = []
    replies: list[bytes] = []
    with TemporaryDirectory(prefix="pad-bench-") as data:
        with serving(model, Path(data)) as client:
            for number in range(ROUNDS):
                seconds, reply = seconds_of(client, body(number))
                cold.append(seconds)
                replies.append(reply)
                again = [seconds_of(client, body(number)) for _ in range(WARM)]
                warm += [seconds for seconds, _ in again]
                if any(other != reply for _, other in again):
                    raise RuntimeError("a warm reply differs from the cold one")
            engine = engine_seconds(client) / ROUNDS
        with serving(model, Path(data)) as client:
            restarted = [seconds_of(client, body(number)) for number in range(ROUNDS)]
            if [reply for _, reply in restarted] != replies or engine_seconds(client):
                raise RuntimeError("after a restart the replies differ or the engine was called")
    tokens = json.loads(replies[0])["usage"]["total_tokens"]
    row = {
        "model": name,
        "tokens": tokens,
        "cold_seconds": median(cold),
        "engine_seconds": engine,
        "warm_seconds": median(warm),
        "slowest_warm_seconds": max(warm),
        "after_restart_seconds": median(seconds for seconds, _ in restarted),
        "times_faster_than_the_engine": engine / median(warm),
    }
    print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


def main() -> None:
    shaped = make_model("smollm2-135m", "float32", "cpu", ROOT / "runs" / "bench")
    models = {
        "examples/tinyworld/teacher": ROOT / "examples" / "tinyworld" / "teacher",
        "smollm2-135m, random": shaped,
    }
    result = {
        "command": "python -m benchmarks.cache",
        "threads": torch.get_num_threads(),
        "request": {"sets": SETS, "n": N, "prompt": PROMPT, "response": RESPONSE},
        "rounds": ROUNDS,
        "warm_requests_a_round": WARM,
        "rows": [measure(name, model) for name, model in models.items()],
    }
    (RESULTS / "cache.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
