"""A teacher service for the length of a block, and ``pad-student`` commands: what the demonstrations share."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

# Teacher and student take turns on the same cores: a waiting thread must not keep one busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from tqdm import tqdm

from pad_student.commands import cli


@contextmanager
def teacher_service(model: str | Path, log: Path, *options: str, start_seconds: float = 120) -> Iterator[str]:
    """Serve ``model`` on a free port of this machine, up for as long as the block runs; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pad_teacher", "serve", "--model", str(model), "--port", str(port), *options]
    print("$ pad-teacher", *command[3:], flush=True)
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as server:
        stopping = Event()
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", server, log, start_seconds)
            Thread(target=_interrupt_if_it_ends, args=(server, log, stopping), daemon=True).start()
            yield f"http://127.0.0.1:{port}"
        finally:
            stopping.set()
            server.terminate()


def _interrupt_if_it_ends(server: subprocess.Popen[bytes], log: Path, stopping: Event) -> None:
    """Do as Ctrl-C does: a run that waits for a teacher that is gone would wait for long."""
    status = server.wait()
    if not stopping.is_set():
        print(f"\nthe teacher ended with status {status}; see {log}", flush=True)
        os.kill(os.getpid(), signal.SIGINT)


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with tqdm(desc="the teacher is loading", bar_format="{desc} {elapsed}") as bar:
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{url}/v1/health/ready"):
                return
            time.sleep(0.2)
            bar.update()
    sys.exit(f"the teacher did not start; see {log}")


def run(*arguments: object) -> None:
    """One ``pad-student`` command, in this process: torch is imported once."""
    words = [str(argument) for argument in arguments]
    print("$ pad-student", *words, flush=True)
    if status := cli.main(words):
        sys.exit(status)
