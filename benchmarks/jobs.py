"""One teacher, many jobs: throughput, fair shares, a greedy job beside a polite one, ten times the load.

    python -m benchmarks.jobs

The service is a process of its own on loopback, with an engine that sleeps 50 µs a token: what is measured is the
scheduler and the way of a request to it, not a model. Writes jobs.json.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from benchmarks.harness.environment import RESULTS, ROOT

TEACHER = ROOT / "examples" / "tinyworld" / "teacher"
BATCH, QUEUE = 1024, 64_000  # tokens
SIZES = (1, 2, 4, 8)  # sets of a request; job k sends requests of SIZES[k % 4]
WAITING = 64  # sets of each job that wait, so that it always wants more than its share
SECONDS = {1: 8, 4: 10, 16: 24}  # measured, by number of jobs


def body(sets: int, at: int) -> bytes:
    """Sets of some hundred tokens, none of them like another of the same request."""
    starts = [PROMPTS[(at + k) % len(PROMPTS)] for k in range(sets)]
    return json.dumps({"sets": [{"prompt": f"{s} " * 4, "responses": [f"{s} " * 2, s]} for s in starts]}).encode()


def connection(url: str) -> httpx.AsyncClient:
    """A client that never meets the service's closing of an idle connection half-way."""
    limits = httpx.Limits(keepalive_expiry=2)
    return httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, verify=False, limits=limits)


PROMPTS = [json.loads(line)["prompt"] for line in (TEACHER.parent / "prompts.jsonl").read_text().splitlines()]


class Load:
    """Jobs that post again and again, and the teacher tokens of each as they are answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[httpx.AsyncClient] = []  # a connection each: one pool of hundreds is slower than the service
        self._sent = 0
        self.tokens: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.refused_in: list[float] = []

    async def post(self, job: str, sets: int) -> float:
        """Seconds of one request."""
        self._sent += sets
        http, content = self._idle.pop() if self._idle else connection(self._url), body(sets, self._sent)
        began = time.perf_counter()
        reply = await http.post("/v1/likelihood", content=content, headers={"X-Job-Id": job})
        seconds = time.perf_counter() - began
        self._idle.append(http)
        self.statuses[reply.status_code] += 1
        if reply.status_code == 200:
            self.tokens[job] += reply.json()["usage"]["total_tokens"]
        else:
            self.refused_in.append(seconds)
        return seconds

    async def keep_posting(self, job: str, sets: int) -> None:
        while True:
            await self.post(job, sets)

    async def beside(self, jobs: dict[str, int], measure: Any) -> Any:
        """What ``measure`` returns while ``jobs``, by sets of a request, keep their work waiting."""
        posting = [
            asyncio.create_task(self.keep_posting(job, sets))
            for job, sets in jobs.items()
            for _ in range(WAITING // sets)
        ]
        try:
            return await measure()
        finally:
            for task in posting:
                task.cancel()
            await asyncio.gather(*posting, return_exceptions=True)


async def shares(url: str, count: int) -> dict[str, Any]:
    """Tokens a second of ``count`` equal jobs with requests of different sizes."""
    load = Load(url)

    async def measure() -> Counter[str]:
        await asyncio.sleep(3)
        before = load.tokens.copy()
        await asyncio.sleep(SECONDS[count])
        return load.tokens - before

    jobs = {f"job{k}": SIZES[k % 4] if count > 1 else SIZES[2] for k in range(count)}
    served = await load.beside(jobs, measure)
    fair = served.total() / count
    off = max(abs(served[job] / fair - 1) for job in jobs)
    return {"jobs": count, "tokens_per_second": served.total() / SECONDS[count], "furthest_from_fair_share": off}


async def polite(url: str) -> dict[str, float]:
    """p95 of a job that asks for 40 sets and then pauses as long: alone, and beside a job that never stops."""
    load = Load(url)

    async def p95() -> float:
        times: list[float] = []
        for _ in range(40):
            times.append(await load.post("polite", 40))
            await asyncio.sleep(times[-1])
        return sorted(times)[37]

    await load.post("polite", 40)
    alone = await p95()
    crowded = await load.beside({"greedy": 8}, p95)
    return {"alone_p95_seconds": alone, "beside_p95_seconds": crowded, "times": crowded / alone}


async def overload(url: str, best: float) -> dict[str, Any]:
    """Ten times what the teacher can do, sent whatever it answers."""
    load, posting, sets = Load(url), set[asyncio.Task[float]](), 64
    await load.post("warm", sets)
    apart = load.tokens.total() / (10 * best)
    began = time.perf_counter()
    ends = began + 12
    measured: tuple[float, int] | None = None
    while (now := time.perf_counter()) < ends:
        if measured is None and now > began + 3:
            measured = now, load.tokens.total()
        task = asyncio.create_task(load.post("all", sets))
        posting.add(task)
        task.add_done_callback(posting.discard)
        await asyncio.sleep(max(0.0, began + load._sent / sets * apart - time.perf_counter()))
    assert measured is not None
    goodput = (load.tokens.total() - measured[1]) / (time.perf_counter() - measured[0])
    offered = load._sent / sets * apart * 10 * best / (time.perf_counter() - began)
    await asyncio.gather(*posting)
    refused = sorted(load.refused_in)
    return {
        "offered_times_best": offered / best,
        "goodput_of_best": goodput / best,
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "refused_p50_ms": 1e3 * refused[len(refused) // 2],
        "refused_p99_ms": 1e3 * refused[len(refused) * 99 // 100],
    }


async def measure(url: str) -> dict[str, Any]:
    async with connection(url) as http:
        while (await http.get("/v1/health/ready")).status_code != 200:
            await asyncio.sleep(0.05)
    rows: list[dict[str, Any]] = []
    for count in SECONDS:
        rows.append(await shares(url, count))
        rows[-1]["of_one_jobs_best"] = rows[-1]["tokens_per_second"] / rows[0]["tokens_per_second"]
        print(rows[-1], flush=True)
    beside = await polite(url)
    print(beside, flush=True)
    overloaded = await overload(url, rows[0]["tokens_per_second"])
    print(overloaded, flush=True)
    return {"shares": rows, "polite": beside, "overload": overloaded}


@contextmanager
def service(*command: str) -> Iterator[str]:
    """The address of a service that runs as long as the block."""
    options = ["--max-batch-tokens", str(BATCH), "--max-queued-tokens", str(QUEUE), "--cache-bytes", "0"]
    with subprocess.Popen([sys.executable, *command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main() -> None:
    result: dict[str, Any] = {"command": "python -m benchmarks.jobs", "batch_tokens": BATCH, "queue_tokens": QUEUE}
    with service("-m", "benchmarks.harness.metered_service") as url:
        result |= asyncio.run(measure(url))
    (RESULTS / "jobs.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
