"""Real processes on loopback: a teacher service, and commands of the student."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# The tests of a real teacher run on either engine: PAD_TEST_ENGINE=vllm, as `make test-vllm` does.
ENGINE = os.environ.get("PAD_TEST_ENGINE", "transformers")
VLLM_OPTIONS = {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 2**28}  # starts in seconds
ENGINE_FLAGS = {
    "transformers": ["--engine", "transformers"],
    # No score cache, so that a repeated request reaches vLLM again.
    "vllm": [
        "--engine",
        "vllm",
        "--cache-bytes",
        "0",
        *(f"--vllm.{name}={value}" for name, value in VLLM_OPTIONS.items()),
    ],
    "openai": ["--engine", "openai"],
}


class TeacherProcess:
    """A running ``pad-teacher serve``."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, trusted: ssl.SSLContext | bool = True) -> None:
        self.process = process
        self.log = log
        self.url = self._listening()
        self.http = httpx.Client(base_url=self.url, timeout=60, verify=trusted)

    def wait_until_ready(self) -> None:
        """Until the golden score has passed."""
        for _ in range(3600):  # three minutes and more
            if self._is_ready():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/v1/health/ready").status_code == 200
        except httpx.TransportError:  # a machine with much else to do: the connection was idle for too long
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(how)
        return self.process.wait(30)

    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_memory_bytes(self) -> int:
        """The most resident memory that the process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def cpu_seconds(self) -> float:
        """Processor time that the process has had: other work on the machine adds nothing to it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _listening(self) -> str:
        for _ in range(1800):  # three minutes: a machine may have much else to do
            for line in self.log.read_text().splitlines():
                if '"listening"' in line:
                    return str(json.loads(line)["url"])
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


@contextmanager
def teacher_process(
    model: Path,
    log: Path,
    *options: str,
    engine: str = ENGINE,
    trusted: ssl.SSLContext | bool = True,
    open_files: int | None = None,
    data_bytes: int | None = None,
) -> Iterator[TeacherProcess]:
    """Serve ``model`` on a free port for as long as the block runs.

    ``open_files`` limits those of its process, ``data_bytes`` the memory that it may have for itself.
    """
    command = [sys.executable, "-m", "pad_teacher", "serve", "--model", str(model), *ENGINE_FLAGS[engine]]
    options = options if "--port" in options else (*options, "--port", "0")
    if open_files:
        command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
    if data_bytes:
        command = ["prlimit", f"--data={data_bytes}", *command]
    with log.open("w") as output:
        process = subprocess.Popen([*command, *options], stderr=output, env=ENVIRONMENT)
    try:
        teacher = TeacherProcess(process, log, trusted)
        with teacher.http:
            yield teacher
    finally:
        process.kill()
        process.wait()


def student(*arguments: Any, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one ``pad-student`` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pad_student", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | (environment or {}),
        timeout=300,
        check=False,
    )


def start_student(*arguments: Any) -> subprocess.Popen[str]:
    """Start one ``pad-student`` command."""
    return subprocess.Popen(
        [sys.executable, "-m", "pad_student", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
