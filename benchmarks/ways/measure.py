"""What a worker measures about its process and its machine: the peak of matrix products, and memory."""

import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def gemm_flop_per_second(dtype: str, device: str) -> dict[str, float]:
    """Best of several square matrix products in the dtype that the model runs in, by the library that does them.

    ``mm`` is ``torch.mm``; ``fastest`` that or, on a CPU in float32, oneDNN's product with a weight laid out for it.
    """
    on_cpu = torch.device(device).type == "cpu"
    side = 2048 if on_cpu else 8192
    x, y = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    rates = {"mm": 2 * side**3 / _best(lambda: torch.mm(x, y), device)}
    rates["fastest"] = rates["mm"]
    if on_cpu and dtype == "float32" and torch.backends.mkldnn.is_available():
        # As wide as a layer: what its cache holds is what this library is best at.
        rows, width, height = 1024, 576, 1536
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.randn(height, width), rows)
        inputs = torch.randn(rows, width)
        best = _best(lambda: torch.ops.mkldnn._linear_pointwise(inputs, weight, None, "none", [], ""), device, 40)
        rates["fastest"] = max(rates["mm"], 2 * rows * width * height / best)
    return rates


def _best(product: Callable[[], object], device: str, times: int = 6) -> float:
    best = float("inf")
    for _ in range(times):
        synchronize(device)
        began = time.perf_counter()
        product()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def synchronize(device: str) -> None:
    """Wait for what was started on the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class Neighbours:
    """How many cores something else kept busy since this was made: above a few per cent, a run does not count."""

    def __init__(self, process: int) -> None:
        self._own = {process, os.getpid()}
        self._began, self._before = time.monotonic(), self._ticks()

    def cores(self) -> float | None:
        """Busy cores besides the scorer's and this process's; what a hypervisor took counts as busy."""
        now = self._ticks()
        if now is None or self._before is None:
            return None
        seconds = (now - self._before) / os.sysconf("SC_CLK_TCK")
        return max(0.0, seconds / (time.monotonic() - self._began))

    def _ticks(self) -> int | None:
        try:
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
            own = 0
            for process in self._own:
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                own += int(fields[11]) + int(fields[12])  # its user and system time
        except (OSError, ValueError):
            return None
        return user + nice + system + irq + softirq + steal - own


class PeakMemory:
    """The most memory that a process held since this was made."""

    def __init__(self, process: int, device: str) -> None:
        self._folder, self._device = Path(f"/proc/{process}"), device
        self._own = Path("/proc/self").resolve() == self._folder
        self._on_gpu = torch.device(device).type == "cuda"
        self._how = self._reset()
        self._before = self._status("VmRSS")

    def read(self) -> dict[str, Any]:
        """The peak, how it was read, and what the process held before the run."""
        if self._how == "torch.cuda.max_memory_allocated":
            return {"peak_memory_bytes": torch.cuda.max_memory_allocated(self._device), "memory": self._how}
        if self._how == "VmHWM":
            peak = self._status("VmHWM")
            return {"peak_memory_bytes": peak, "held_before_bytes": self._before, "memory": self._how}
        if self._how == "ru_maxrss":
            # Over the life of the process, so loading counts too.
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            return {"peak_memory_bytes": peak, "held_before_bytes": self._before, "memory": self._how}
        return {"peak_memory_bytes": None, "memory": self._how}

    def _reset(self) -> str:
        if self._on_gpu:
            if not self._own:
                return "not seen: another process's GPU memory"
            torch.cuda.reset_peak_memory_stats(self._device)
            return "torch.cuda.max_memory_allocated"
        try:
            (self._folder / "clear_refs").write_text("5")  # VmHWM starts again from what is held now
        except OSError:
            return "ru_maxrss" if self._own else "not seen: another process's memory"
        return "VmHWM"

    def _status(self, field: str) -> int | None:
        found = re.search(rf"{field}:\s+(\d+) kB", (self._folder / "status").read_text())
        return int(found[1]) * 1024 if found else None
