"""Half an hour of mixed requests to one service: flat memory, no 5xx, an empty queue. Writes results/soak.json.

    python -m benchmarks.soak [--minutes 30]

Each of six clients posts one request after another: jobs of different request sizes, invalid input, deadlines that
are too short, clients that hang up, and repeated requests. Resident memory is read every ten seconds. Caches fill in
the first fifth, which is left out; the result is the rise of the median between the two halves of the rest.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.service_process import pad_teacher

CLIENTS, PAUSE = 6, 0.1  # seconds between a client's requests, which leaves time for other work on the machine
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "red", "blue", "green", "say", "count", "to", "twice"]
WRONG = ['{"sets": NaN}', '{"sets": []}', "[" * 10_000, '{"sets": [{"prompt": 3, "responses": ["a"]}]}', "\xff"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with pad_teacher(log, "--model", ROOT / "examples" / "tinyworld" / "teacher") as service:
            found = asyncio.run(_soak(service.url, service.process.pid, 60 * minutes))
            service.process.send_signal(signal.SIGTERM)
            status = service.process.wait(60)
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        faults = sum(entry["level"] in ("error", "critical") and entry.get("status") != 504 for entry in entries)
    result = {"command": "make soak", "minutes": minutes, **found, "exit_status": status, "errors_in_log": faults}
    (RESULTS / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


async def _soak(url: str, pid: int, seconds: float) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    times: list[float] = []
    memory: list[float] = []
    until = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        clients = [_client(http, random.Random(k), f"job-{k % 4}", until, outcomes, times) for k in range(CLIENTS)]
        await asyncio.gather(*clients, _watch(pid, until, memory))
        shown = (await http.get("/metrics")).text
    left = [line for line in shown.splitlines() if line.startswith("pad_queued_tokens ")]
    steady = memory[len(memory) // 5 :]
    early, late = steady[: len(steady) // 2], steady[len(steady) // 2 :]
    return {
        "requests": sum(outcomes.values()),
        "outcomes": dict(sorted(outcomes.items())),
        "server_errors": sum(
            count for outcome, count in outcomes.items() if outcome.startswith("5") and outcome != "504"
        ),
        "seconds_median": median(times),
        "seconds_p95": quantiles(times, n=20)[-1],
        "memory_mib": {"first": memory[0], "early": median(early), "late": median(late), "largest": max(memory)},
        "memory_rise": median(late) / median(early) - 1,
        "queued_tokens_left": float(left[0].split()[1]),
    }


async def _client(
    http: httpx.AsyncClient, draw: random.Random, job: str, until: float, outcomes: Counter[str], times: list[float]
) -> None:
    headers = {"X-Job-Id": job}
    while time.monotonic() < until:
        kind = draw.choices(["score", "wrong", "late", "hang up", "repeat"], [70, 8, 6, 8, 8])[0]
        began = time.monotonic()
        try:
            match kind:
                case "wrong":
                    reply = await http.post("/v1/score", content=draw.choice(WRONG), headers=headers)
                case "late":
                    reply = await http.post("/v1/score", json=_sets(draw), headers=headers | {"X-Deadline-Ms": "1"})
                case "hang up":
                    asked = http.post("/v1/score", json=_sets(draw), headers=headers)
                    reply = await asyncio.wait_for(asked, draw.uniform(0.001, 0.05))
                case "repeat":
                    reply = await http.post("/v1/score", json=_sets(random.Random(7)), headers=headers)
                case _:
                    route = draw.choice(["likelihood", "selection", "score", "score"])
                    reply = await http.post(f"/v1/{route}", json=_sets(draw), headers=headers)
                    times.append(time.monotonic() - began)
            outcomes[str(reply.status_code)] += 1
        except TimeoutError:
            outcomes["left"] += 1
        await asyncio.sleep(PAUSE)


def _sets(draw: random.Random) -> dict[str, Any]:
    def text(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    def responses() -> list[str]:
        return [text(24) for _ in range(draw.randint(2, 4))]

    return {"sets": [{"prompt": text(20), "responses": responses()} for _ in range(draw.choice([1, 1, 2, 4, 16]))]}


async def _watch(pid: int, until: float, memory: list[float]) -> None:
    while time.monotonic() < until:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        await asyncio.sleep(10)


if __name__ == "__main__":
    main()
