"""Where results go, and the circumstances that a reader needs to judge them."""

import datetime
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "runs" / "bench"  # models, workloads and logs; git ignores it


def circumstances(script: str, device: str) -> dict[str, Any]:
    """Command, date, commit, device and threads of a run of ``benchmarks.<script>``."""
    import torch

    on_cpu = torch.device(device).type == "cpu"
    return {
        "command": command_of(script),
        "date": now(),
        "commit": commit_of(ROOT),
        "device": _processor() if on_cpu else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
    }


def commit_of(checkout: Path) -> str:
    """The commit of a checkout of this project, with ``-dirty`` if it has been changed; "unknown" outside of git."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def command_of(script: str) -> str:
    """The command line that runs ``benchmarks.<script>`` again, with the same options."""
    return shlex.join(["python", "-m", f"benchmarks.{script}", *sys.argv[1:]])


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", listed.read_text()) if listed.exists() else None
    return name[1] if name else platform.machine()
