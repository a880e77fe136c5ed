"""How late the service's event loop is while the largest requests arrive. Writes results/event_loop.json.

    python -m benchmarks.event_loop [--default-switching] [--default-collecting] [--only PART]

A separate process serves the application over HTTP with a real tokenizer and an engine that only sleeps. A task in
its loop sleeps 1 ms repeatedly and records how late it wakes. Each step of the loop is also timed in CPU time of its
thread, which is the loop's own work. The rest of a delay is waiting for the interpreter lock or for a core. "held" is
without the wait for a core, so that other processes on the machine hardly change it. ``--only`` measures the cases
whose names have PART in them, and writes no result.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx

from benchmarks.harness.environment import RESULTS
from benchmarks.harness.largest_bodies import largest_bodies
from benchmarks.harness.model import source_text
from benchmarks.harness.service_process import harness_service
from benchmarks.harness.watched_service import RESET, SWITCH, VALUES

SECONDS = 2.0  # least time of each case; it ends when its last request does


def cases() -> dict[str, tuple[str, list[bytes], int, float | None]]:
    """Route, bodies, concurrent clients, and seconds until each client hangs up (None: never), by name."""
    source = source_text()[:2_000_000]

    def text(tokens: int, at: int) -> str:
        return source[at % 1_500_000 : at % 1_500_000 + 3 * tokens].strip() + "."  # a token has about three letters

    def sets(count: int, prompt: int, n: int, response: int) -> list[dict[str, Any]]:
        spread = [{"prompt": text(prompt, 997 * i)} for i in range(count)]
        return [
            each | {"responses": [text(response, 997 * i + 131 * j) for j in range(n)]}
            for i, each in enumerate(spread)
        ]

    def body(**fields: Any) -> list[bytes]:
        return [json.dumps(fields).encode()]

    usual, many = sets(8, 256, 4, 128), sets(860, 256, 4, 128)  # 860: what a body of the largest size holds
    choices = sets(64, 128, 4, 64)
    return {
        "no request": ("/v1/likelihood", [], 0, None),
        "8 sets of 4 responses": ("/v1/likelihood", body(sets=usual), 4, None),
        "860 sets of 4 responses": ("/v1/likelihood", body(sets=many), 2, None),
        "the same, every token's number": ("/v1/likelihood", body(sets=many, per_token=True), 2, None),
        "the same, clients hang up after 0.5 s": ("/v1/likelihood", body(sets=many), 2, 0.5),
        "1,024 sets of 256 responses of 1 token": ("/v1/likelihood", body(sets=sets(1024, 8, 256, 1)), 1, None),
        "64 sets, every order of 4": ("/v1/score", body(sets=choices, orders="all"), 2, None),
        **{f"largest: {name}": (route, [content], 2, None) for name, (route, content) in largest_bodies().items()},
        "1,024 completions, echo": ("/v1/completions", body(prompt=[text(300, 9 * i) for i in range(1024)], echo=True,
                                                            max_tokens=0, logprobs=1), 1, None),
    }  # fmt: skip


async def measure(url: str, asked: dict[str, tuple[str, list[bytes], int, float | None]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as http:
        for name, (route, bodies, clients, patience) in asked.items():
            statuses: dict[str, int] = {}
            await http.post(RESET)
            until = time.monotonic() + SECONDS
            if bodies:
                posting = (_post(http, route, bodies[0], until, patience, statuses) for _ in range(clients))
                await asyncio.gather(*posting)
            else:
                await asyncio.sleep(SECONDS)
            values = (await http.post(VALUES)).json()
            megabytes = round(len(bodies[0]) / 1e6, 2) if bodies else 0
            found[name] = {"body_megabytes": megabytes, "answers": statuses, **values}
            late, held, step = values["late_ms"], values["held_ms"], values["longest_step_own_ms"]
            print(
                f"{name:42} {megabytes:6.2f} MB  late {late['median']:6.2f} {late['p99']:6.2f} {late['worst']:6.2f}"
                f" ms  held {held['worst']:6.2f} ms  longest own step {step:5.2f} ms  gap {values['gap_ms']} "
                f" {statuses}",
                flush=True,
            )
    return found


async def _post(
    http: httpx.AsyncClient, route: str, body: bytes, until: float, patience: float | None, statuses: dict[str, int]
) -> None:
    while time.monotonic() < until:
        try:
            reply = await asyncio.wait_for(http.post(route, content=body), patience)
            status = str(reply.status_code)
        except TimeoutError:
            status = "left"
        statuses[status] = statuses.get(status, 0) + 1


def main() -> None:
    options, _, part = " ".join(sys.argv[1:]).partition("--only ")
    asked = {name: case for name, case in cases().items() if part in name}
    with harness_service("watched_service", *options.split()) as url:
        found = asyncio.run(measure(url, asked))
    if part:
        return
    result = {"command": "python -m benchmarks.event_loop", "switch_seconds": SWITCH, "cases": found}
    (RESULTS / "event_loop.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
