"""Our service over HTTP: a real ``pad-teacher serve`` on loopback, saturated, and idle with one set."""

import asyncio
import json
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any

import httpx

from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker
from benchmarks.harness.service_process import engine_seconds, pad_teacher

ROUTES = {"likelihood": "/v1/likelihood", "cyclic": "/v1/selection", "likelihood + cyclic": "/v1/score"}
REPEATS = 3  # of one set on the idle service


class Service:
    """The process and a client to it."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        options = ["--model", job.model, "--dtype", job.dtype, "--device", job.device]
        options += ["--cache-bytes", "0"]  # the same sets are posted in every round
        service = stack.enter_context(pad_teacher(Path(mkdtemp(prefix="pad-bench-")) / "log", *options))
        self.process, self._url = service.process.pid, service.url
        self.connections = job.options["connections"]
        self._sets = [{"prompt": item["prompt"], "responses": item["responses"]} for item in job.sets]

    def saturated(self, route: str, **options: Any) -> list[dict[str, Any]]:
        """Post all sets together; each connection posts its share in one request."""
        return asyncio.run(self._saturated(route, options))

    def idle(self) -> list[dict[str, float]]:
        """Post one set alone, several times. The engine's own seconds come from the service's metrics."""
        return asyncio.run(self._idle())

    def per_token(self, sets: int) -> list[list[list[float]]]:
        """Log-probabilities of each token of the first ``sets`` sets."""
        body = {"sets": self._sets[:sets], "per_token": True}
        scored = httpx.post(f"{self._url}/v1/likelihood", json=body, timeout=None, trust_env=False)
        return [[one["token_log_likelihoods"] for one in item["responses"]] for item in scored.json()["sets"]]

    async def _saturated(self, route: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        shares = [self._sets[i :: self.connections] for i in range(min(self.connections, len(self._sets)))]
        async with self._client() as client:
            replies = await asyncio.gather(*(_post(client, route, {"sets": share, **options}) for share in shares))
        scored = [reply["sets"] for reply in replies]
        return [scored[i % self.connections][i // self.connections] for i in range(len(self._sets))]

    async def _idle(self) -> list[dict[str, float]]:
        found = []
        async with self._client() as client:
            for i in range(REPEATS):
                body = {"sets": [self._sets[i % len(self._sets)]]}
                engine = engine_seconds((await client.get("/metrics")).text)
                began = time.perf_counter()
                await _post(client, "/v1/likelihood", body)
                seconds = time.perf_counter() - began
                engine = engine_seconds((await client.get("/metrics")).text) - engine
                found.append({"request": seconds, "engine": engine, "around_it": seconds - engine})
        return found

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self.connections)
        return httpx.AsyncClient(base_url=self._url, timeout=None, limits=limits, trust_env=False)


async def _post(client: httpx.AsyncClient, route: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.post(route, json=body)
    if reply.status_code != 200:
        raise RuntimeError(f"{route} answered {reply.status_code}: {reply.text[:300]}")
    return json.loads(reply.content)


def load(job: Job, stack: ExitStack) -> LoadedContender:
    service = Service(job, stack)

    # In a separate call: the timed calls ask for one number a response, as students do.
    tokens = service.per_token(job.options["reference_sets"])

    def of_idle(found: list[dict[str, float]]) -> dict[str, float]:
        return {f"{name}_seconds": median(one[name] for one in found) for name in found[0]}

    routes = ROUTES if job.selection else {"likelihood": ROUTES["likelihood"]}
    parts = {name: Part(lambda route=route: service.saturated(route)) for name, route in routes.items()}
    parts["likelihood"] = Part(parts["likelihood"].run, log_probs=lambda _: tokens)
    parts["one set, idle"] = Part(service.idle, facts=of_idle)
    return LoadedContender(parts, scorer=service.process)


if __name__ == "__main__":
    run_worker(load)
