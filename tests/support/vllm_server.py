"""A real vLLM server of OpenAI's API on loopback, as ``vllm serve`` starts it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.processes import ENVIRONMENT, VLLM_OPTIONS


@contextmanager
def vllm_server(model: Path, log: Path, *more: str) -> Iterator[str]:
    """Serve ``model`` in float32 for as long as the block runs; the URL, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {name.replace("_", "-"): value for name, value in VLLM_OPTIONS.items() if value is not True}
    flags = [f"--{name}={value}" for name, value in {**options, "port": port, "dtype": "float32"}.items()]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--enforce-eager"]
    with log.open("w") as output:
        environment = ENVIRONMENT | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"}
        process = subprocess.Popen([*command, *flags, *more], stdout=output, stderr=output, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False
