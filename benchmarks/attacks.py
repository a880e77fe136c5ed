"""One polite key while another key, or nobody with a key, attacks: its times, health's, memory, lines of the log.

    python -m benchmarks.attacks [--teacher DIR] [--requests 60] [--attack NAME] [--limit-mib 2048]

The service is `pad-teacher serve` with its default limits, on the tiny world's teacher or the one in DIR. Then, with
the tiny teacher, the largest bodies of every route arrive under a limit of memory. Writes results/attacks.json, or
attacks_DIR.json. The status is 1 if a number is over its limit. Attackers run at the lowest priority.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from benchmarks.harness.attackers import ATTACKS, attack
from benchmarks.harness.environment import RESULTS, ROOT, RUNS, circumstances
from benchmarks.harness.largest_bodies import largest_bodies
from benchmarks.harness.service_process import ServiceProcess, pad_teacher
from pad_teacher.admission.keys import add_key

TINY = ROOT / "examples" / "tinyworld" / "teacher"
PAUSE = 0.1  # seconds between two requests of the polite key
STARTING = 5  # seconds from an attack's start to the first measurement
ONE = b'{"sets": [{"prompt": "hi", "responses": ["yes", "no"]}]}'
TOGETHER = 2  # of the largest bodies, from as many clients

MOST = {  # of each number under attack
    "polite_p95_ms": "3 times its quiet value, or 300",
    "health_p95_ms": "50",
    "above_quiet_mib": "300",
    "log_lines_a_second": "10",
}


def measured(service: ServiceProcess, key: str, name: str, requests: int) -> dict[str, float]:
    """Milliseconds of the polite key's requests and of health; the largest memory; lines of the log a second.

    ``machine_late_p95_ms`` is how late the pauses of this process end: how much of a time is the machine's.
    """
    times: dict[str, list[float]] = {"polite": [], "health": [], "machine_late": []}
    began, already = time.monotonic(), lines_of_others(service.log)
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # the largest memory counts from now on
    with client(service.url, Authorization=f"Bearer {key}") as http:
        for number in range(requests):
            own = [{"prompt": f"{name} {number} {k}", "responses": ["yes", "no"]} for k in range(4)]
            times["polite"].append(milliseconds(lambda own=own: http.post("/v1/score", json={"sets": own})))
            times["health"].append(milliseconds(lambda: http.get("/v1/health/live")))
            paused = time.perf_counter()
            time.sleep(PAUSE)
            times["machine_late"].append(1e3 * (time.perf_counter() - paused - PAUSE))
    logged = lines_of_others(service.log) - already
    found: dict[str, float] = {}
    for kind, values in times.items():
        twentieths = quantiles(values, n=20)
        found |= {f"{kind}_p50_ms": round(twentieths[9], 1), f"{kind}_p95_ms": round(twentieths[18], 1)}
    return found | {
        "peak_mib": peak_mib(service.process.pid),
        "open_files": len(list(Path(f"/proc/{service.process.pid}/fd").iterdir())),
        "log_lines_a_second": round(logged / (time.monotonic() - began), 1),
    }


def client(url: str, **headers: str) -> httpx.Client:
    """One that connects anew for each request, as probes do: an idle connection may have given way to others."""
    anew = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, headers=headers, timeout=600, trust_env=False, limits=anew)


def milliseconds(ask: Callable[[], httpx.Response]) -> float:
    began = time.perf_counter()
    assert ask().status_code == 200
    return 1e3 * (time.perf_counter() - began)


def lines_of_others(log: Path) -> int:
    """The lines of a log, apart from those about the polite key's requests."""
    return sum('"key": "polite"' not in line for line in log.read_text().splitlines())


def peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@contextmanager
def attacked(name: str, url: str, key: str) -> Iterator[None]:
    """The time of an attack; it ends with the block."""
    attacker = multiprocessing.get_context("spawn").Process(target=attack, args=(name, url, key))
    attacker.start()
    try:
        time.sleep(STARTING)
        yield
        assert attacker.is_alive()
    finally:
        attacker.kill()
        attacker.join()


def judged(found: dict[str, float], quiet: dict[str, float]) -> dict[str, Any]:
    """The numbers of an attack, and the names of those over their limit."""
    above = found["peak_mib"] - quiet["peak_mib"]
    most = {
        "polite_p95_ms": max(3 * quiet["polite_p95_ms"], 300),
        "health_p95_ms": 50,
        "above_quiet_mib": 300,
        "log_lines_a_second": 10,
    }
    numbers = found | {"above_quiet_mib": above}
    return numbers | {"over": [each for each in MOST if numbers[each] > most[each]]}


def row(name: str, numbers: dict[str, Any]) -> str:
    cells = (f"{numbers[each]:14.1f} {'OVER' if each in numbers['over'] else 'ok':5}" for each in MOST)
    return f"{name:34}{''.join(cells)}   machine late {numbers['machine_late_p95_ms']:.1f} ms"


def under_attacks(teacher: Path, names: list[str], requests: int) -> dict[str, Any]:
    """The numbers of each attack, and of none."""
    keys = RUNS / "attacks.keys"
    keys.unlink(missing_ok=True)
    polite, greedy = add_key(keys, "polite"), add_key(keys, "greedy", weight=0.01, tokens_per_minute=1000)
    with pad_teacher(RUNS / "attacks.log", "--model", teacher, "--keys", keys) as service:
        measured(service, polite, "warm", requests)
        quiet = measured(service, polite, "none", requests)
        result: dict[str, Any] = {"none": judged(quiet, quiet)}
        print(" " * 34 + "".join(f"{each:>20}" for each in MOST) + f"\n{row('none', result['none'])}", flush=True)
        for name in names:
            with attacked(name, service.url, greedy):
                result[name] = judged(measured(service, polite, name, requests), quiet)
            print(row(name, result[name]), flush=True)
    return result


def under_a_limit(mib: int) -> dict[str, Any]:
    """The largest bodies, several at a time, while the service's data may take so much: what became of each."""
    result: dict[str, Any] = {}
    limit = ("prlimit", f"--data={mib * 2**20}")
    with (
        pad_teacher(RUNS / "attacks_limit.log", "--model", TINY, prefix=limit) as service,
        client(service.url) as http,
        ThreadPoolExecutor(TOGETHER) as pool,
    ):
        for name, (route, body) in largest_bodies().items():
            Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
            asked = [pool.submit(outcome, http, route, body) for _ in range(TOGETHER)]
            outcomes = Counter(each.result() for each in asked)
            outcomes[outcome(http, "/v1/score", ONE)] += 1
            over = service.process.poll() is not None or any(not each.startswith(("2", "4")) for each in outcomes)
            result[name] = {"outcomes": outcomes, "peak_mib": peak_mib(service.process.pid), "over": over}
            said = f"{result[name]['peak_mib']:6} MiB  {'OVER' if over else 'ok':4}  {dict(outcomes)}"
            print(f"{name:34}{said}", flush=True)
    return result


def outcome(http: httpx.Client, route: str, body: bytes) -> str:
    """The status, with the code of an error; or the name of the reason why there is none."""
    try:
        reply = http.post(route, content=body, headers={"Content-Type": "application/json"})
    except httpx.TransportError as error:
        return type(error).__name__
    return str(reply.status_code) + ("" if reply.is_success else f" {reply.json()['error']['code']}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--teacher", type=Path, default=TINY, metavar="DIR", help="model directory of the teacher")
    parser.add_argument("--requests", type=int, default=60, help="of the polite key in each measurement")
    parser.add_argument("--attack", choices=ATTACKS, action="append", metavar="NAME", help=f"of {', '.join(ATTACKS)}")
    parser.add_argument("--limit-mib", type=int, default=2048, help="of the service's data; 0: no such measurement")
    given = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    tiny = given.teacher.resolve() == TINY
    result: dict[str, Any] = {"circumstances": circumstances("attacks", "cpu"), "limits": MOST}
    result["attacks"] = under_attacks(given.teacher, given.attack or list(ATTACKS), given.requests)
    if tiny and given.limit_mib:
        result["largest_bodies_in_mib"] = {"limit": given.limit_mib, "bodies": under_a_limit(given.limit_mib)}
    name = "attacks" if tiny else f"attacks_{given.teacher.resolve().name}"
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    bodies: dict[str, Any] = result.get("largest_bodies_in_mib", {}).get("bodies", {})
    sys.exit(int(any(each["over"] for each in (*result["attacks"].values(), *bodies.values()))))


if __name__ == "__main__":
    main()
