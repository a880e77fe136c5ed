"""One teacher and many jobs: throughput, fair shares, a greedy job next to a polite one, ten times the load.

    python -m benchmarks.jobs

The service is a separate process on loopback. Its engine sleeps 50 µs a token, so that the scheduler and the HTTP
path are measured, and not a model. Writes results/jobs.json.
"""

import asyncio
import json
import time
from collections import Counter
from typing import Any

import httpx

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.service_process import harness_service

TEACHER = ROOT / "examples" / "tinyworld" / "teacher"
BATCH, QUEUE = 1024, 64_000  # tokens
SIZES = (1, 2, 4, 8)  # sets of a request; job k sends requests of SIZES[k % 4]
WAITING = 64  # waiting sets of each job, so that it always wants more than its share
SECONDS = {1: 8, 4: 10, 16: 24}  # of each measurement, by number of jobs


def body(sets: int, at: int) -> bytes:
    """A request of different sets, each of about a hundred tokens."""
    starts = [PROMPTS[(at + k) % len(PROMPTS)] for k in range(sets)]
    return json.dumps({"sets": [{"prompt": f"{s} " * 4, "responses": [f"{s} " * 2, s]} for s in starts]}).encode()


def connection(url: str) -> httpx.AsyncClient:
    """A client that drops idle connections before the service closes them."""
    limits = httpx.Limits(keepalive_expiry=2)
    return httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, verify=False, limits=limits)


PROMPTS = [json.loads(line)["prompt"] for line in (TEACHER.parent / "prompts.jsonl").read_text().splitlines()]


class Load:
    """Posts requests of jobs, and counts the answered teacher tokens of each job."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[httpx.AsyncClient] = []  # one connection each: a pool of hundreds is slower than the service
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

    async def with_background(self, jobs: dict[str, int], measure: Any) -> Any:
        """The result of ``measure`` while ``jobs``, with sets of a request by job, keep their work waiting."""
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
    served = await load.with_background(jobs, measure)
    fair = served.total() / count
    off = max(abs(served[job] / fair - 1) for job in jobs)
    return {"jobs": count, "tokens_per_second": served.total() / SECONDS[count], "furthest_from_fair_share": off}


async def polite(url: str) -> dict[str, float]:
    """p95 of a job that posts 40 sets and pauses as long as they took: alone, and next to a job that never pauses."""
    load = Load(url)

    async def p95() -> float:
        times: list[float] = []
        for _ in range(40):
            times.append(await load.post("polite", 40))
            await asyncio.sleep(times[-1])
        return sorted(times)[37]

    await load.post("polite", 40)
    alone = await p95()
    crowded = await load.with_background({"greedy": 8}, p95)
    return {"alone_p95_seconds": alone, "beside_p95_seconds": crowded, "times": crowded / alone}


async def overload(url: str, best: float) -> dict[str, Any]:
    """Goodput and refusals while ten times the best throughput is sent, regardless of the answers."""
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
    rows: list[dict[str, Any]] = []
    for count in SECONDS:
        rows.append(await shares(url, count))
        rows[-1]["of_one_jobs_best"] = rows[-1]["tokens_per_second"] / rows[0]["tokens_per_second"]
        print(rows[-1], flush=True)
    politeness = await polite(url)
    print(politeness, flush=True)
    overloaded = await overload(url, rows[0]["tokens_per_second"])
    print(overloaded, flush=True)
    return {"shares": rows, "polite": politeness, "overload": overloaded}


def main() -> None:
    result: dict[str, Any] = {"command": "python -m benchmarks.jobs", "batch_tokens": BATCH, "queue_tokens": QUEUE}
    options = ["--max-batch-tokens", str(BATCH), "--max-queued-tokens", str(QUEUE), "--cache-bytes", "0"]
    with harness_service("metered_service", *options) as url:
        result |= asyncio.run(measure(url))
    (RESULTS / "jobs.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
