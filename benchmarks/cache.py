"""How much faster a request is answered if all of it was scored before. Writes results/cache.json.

    python -m benchmarks.cache

The service is a real process, asked over HTTP on loopback. Each round posts new sets, and then the same sets again.
After the last round the service is restarted with the same data directory, and all sets are posted once more.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import torch

from benchmarks.harness.environment import RESULTS, ROOT, RUNS
from benchmarks.harness.model import make_model, source_text
from benchmarks.harness.service_process import engine_seconds, pad_teacher

SETS, PROMPT, N, RESPONSE = 64, 64, 4, 32  # lengths in tokens of the random model's tokenizer, approximately
ROUNDS, WARM = 3, 5  # rounds, and warm requests in each


def body(number: int) -> bytes:
    """One round's request."""
    source = source_text()

    def text(tokens: int, at: int) -> str:
        at += 10_007 * SETS * number
        return source[at : at + 3 * tokens].strip() + "."  # a token has about three letters

    def one(at: int) -> dict[str, Any]:
        return {"prompt": text(PROMPT, at), "responses": [text(RESPONSE, at + 131 * j) for j in range(1, N + 1)]}

    sets = [one(10_007 * k) for k in range(SETS)]
    return json.dumps({"sets": sets}).encode()


@contextmanager
def serving(model: Path, data: Path) -> Iterator[httpx.Client]:
    """A client of a ready service that keeps its scores in ``data``."""
    options = ("--model", model, "--data", data)
    with (
        pad_teacher(data / "log", *options) as service,
        httpx.Client(base_url=service.url, timeout=None, trust_env=False) as client,
    ):
        yield client


def seconds_of(client: httpx.Client, content: bytes) -> tuple[float, bytes]:
    """Seconds until the reply, and its body."""
    began = time.perf_counter()
    reply = client.post("/v1/likelihood", content=content)
    seconds = time.perf_counter() - began
    if reply.status_code != 200:
        raise RuntimeError(f"the service answered {reply.status_code}: {reply.text[:300]}")
    return seconds, reply.content


def measure(name: str, model: Path) -> dict[str, Any]:
    """One model's row: seconds of cold requests, of warm ones, and of the first ones after a restart."""
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
            engine = engine_seconds(client.get("/metrics").text) / ROUNDS
        with serving(model, Path(data)) as client:
            restarted = [seconds_of(client, body(number)) for number in range(ROUNDS)]
            if [reply for _, reply in restarted] != replies or engine_seconds(client.get("/metrics").text):
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
    shaped = make_model("smollm2-135m", "float32", "cpu", RUNS)
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
