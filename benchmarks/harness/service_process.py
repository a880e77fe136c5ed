"""Service processes: starts one, waits until it listens and is ready, and ends it."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A service that runs: its address, its process and its log."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def pad_teacher(
    log: Path, *options: Any, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """A ready ``pad-teacher serve`` with ``options``, on a free port of loopback. It ends with the block.

    Args:
        log: the file for the service's log.
        options: of ``pad-teacher serve``, apart from the port.
        prefix: a command that starts the service, such as ``taskset -c 0``.
        environment: of the process; None for this process's own.

    Raises:
        RuntimeError: the service ended before it was ready, with the end of its log.
    """
    command = [*prefix, sys.executable, "-m", "pad_teacher", "serve", "--port", "0", *map(str, options)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, env=environment)
    try:
        yield ServiceProcess(_wait_until_ready(process, log), process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def harness_service(module: str, *options: str) -> Iterator[str]:
    """The address of a ready service in ``benchmarks.harness.<module>``. The service ends with the block."""
    command = [sys.executable, "-m", f"benchmarks.harness.{module}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            _wait_for_health(url, process)
            yield url
        finally:
            process.kill()


def engine_seconds(metrics: str) -> float:
    """Seconds that the engine has computed so far, from the text of ``/metrics``."""
    found = re.search(r"^pad_batch_seconds_sum (\S+)", metrics, re.MULTILINE)
    if not found:
        raise RuntimeError("the service's metrics have no pad_batch_seconds_sum")
    return float(found[1])


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        listening = re.search(r'"url": ?"([^"]+)"', log.read_text())
        if listening:
            return _wait_for_health(listening[1], process, log)
        time.sleep(0.05)
    raise RuntimeError(f"the service stopped: {log.read_text()[-500:]}")


def _wait_for_health(url: str, process: subprocess.Popen[Any], log: Path | None = None) -> str:
    while process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/v1/health/ready", trust_env=False).status_code == 200:
                return url
        time.sleep(0.05)
    raise RuntimeError(f"the service stopped: {log.read_text()[-500:] if log else 'its output has the reason'}")
