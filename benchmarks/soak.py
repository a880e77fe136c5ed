"""Half an hour of mixed requests to one service: flat memory, no 5xx, an empty queue. Writes results/soak.json.

    python -m benchmarks.soak [--minutes 30]
    python -m benchmarks.soak --against CHECKOUT [--requests 16000]    # writes results/soak_against.json

Each of six clients posts one request after another: jobs of different request sizes, invalid input, deadlines that
are too short, clients that hang up, and repeated requests. Resident memory is read every ten seconds. Caches fill in
the first fifth, which is left out; the result is the rise of the median between the two halves of the rest.

Memory depends on the machine and on how much was asked. So ``--against`` sends the same requests to this code and to
that of another checkout, at the same time, and compares their memory at the same number of requests.
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
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

from benchmarks.harness.environment import RESULTS, ROOT, circumstances, commit_of
from benchmarks.harness.service_process import ServiceProcess, pad_teacher

CLIENTS, PAUSE = 6, 0.1  # seconds between a client's requests, which leaves time for other work on the machine
MODEL = ("--model", ROOT / "examples" / "tinyworld" / "teacher")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "red", "blue", "green", "say", "count", "to", "twice"]
WRONG = ['{"sets": NaN}', '{"sets": []}', "[" * 10_000, '{"sets": [{"prompt": 3, "responses": ["a"]}]}', "\xff"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare memory with this checkout's code")
    parser.add_argument("--requests", type=int, default=16_000, help="to each of the two")
    options = parser.parse_args()
    if options.against:
        _compare(options.against, options.requests)
        return
    minutes = options.minutes
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with pad_teacher(log, *MODEL) as service:
            found = asyncio.run(_soak(service.url, service.process.pid, 60 * minutes))
            service.process.send_signal(signal.SIGTERM)
            status = service.process.wait(60)
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        faults = sum(entry["level"] in ("error", "critical") and entry.get("status") != 504 for entry in entries)
    result = {"command": "make soak", "minutes": minutes, **found, "exit_status": status, "errors_in_log": faults}
    (RESULTS / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _compare(other: Path, count: int) -> None:
    """The memory of this code and another checkout's, by the number of requests that each has answered."""
    names = {"this": ROOT, "other": other.resolve()}
    commits = {name: commit_of(tree) for name, tree in names.items()}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as services:
        found = {}
        for name, tree in names.items():
            paths = os.pathsep.join(str(tree / part) for part in ("server", "client", "shared"))
            started = pad_teacher(Path(folder) / name, *MODEL, environment={**os.environ, "PYTHONPATH": paths})
            found[name] = services.enter_context(started)

        async def both() -> list[dict[str, int]]:
            return await asyncio.gather(*(_memory_by_requests(each, count) for each in found.values()))

        memory = dict(zip(names, asyncio.run(both()), strict=True))
    last = {name: [*by_count.values()][-1] for name, by_count in memory.items()}
    result = circumstances("soak", "cpu") | {"commits": commits, "requests": count, "memory_mib": memory}
    result |= {"ratio": last["this"] / last["other"]}
    (RESULTS / "soak_against.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


async def _memory_by_requests(service: ServiceProcess, count: int) -> dict[str, int]:
    outcomes: Counter[str] = Counter()
    memory = {"0": round(_resident(service.process.pid))}

    def goes_on() -> bool:
        return outcomes.total() < count

    async def watch() -> None:
        every = max(1, count // 16)
        while goes_on():
            if outcomes.total() // every > len(memory) - 1:
                memory[str(outcomes.total())] = round(_resident(service.process.pid))
            await asyncio.sleep(0.5)
        memory[str(outcomes.total())] = round(_resident(service.process.pid))

    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        clients = [_client(http, random.Random(k), f"job-{k % 4}", goes_on, outcomes, []) for k in range(CLIENTS)]
        await asyncio.gather(*clients, watch())
    return memory


async def _soak(url: str, pid: int, seconds: float) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    times: list[float] = []
    memory: list[float] = []
    until = time.monotonic() + seconds

    def goes_on() -> bool:
        return time.monotonic() < until

    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        clients = [_client(http, random.Random(k), f"job-{k % 4}", goes_on, outcomes, times) for k in range(CLIENTS)]
        await asyncio.gather(*clients, _watch(pid, goes_on, memory))
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
    http: httpx.AsyncClient,
    draw: random.Random,
    job: str,
    goes_on: Callable[[], bool],
    outcomes: Counter[str],
    times: list[float],
) -> None:
    headers = {"X-Job-Id": job}
    while goes_on():
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


async def _watch(pid: int, goes_on: Callable[[], bool], memory: list[float]) -> None:
    while goes_on():
        memory.append(_resident(pid))
        await asyncio.sleep(10)


def _resident(pid: int) -> float:
    """Resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
