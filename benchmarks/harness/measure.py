"""Measurements of a process and its machine: the peak rate of matrix products, busy cores, and memory."""

import os
import re
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch


def gemm_flop_per_second(dtype: str, device: str) -> dict[str, float]:
    """Peak rate of matrix products in the model's dtype, by library: the best of several.

    ``mm`` is ``torch.mm``. ``fastest`` is the better of ``mm`` and, on a CPU in float32, oneDNN's product with a
    packed weight.
    """
    on_cpu = torch.device(device).type == "cpu"
    side = 2048 if on_cpu else 8192
    x, y = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    rates = {"mm": 2 * side**3 / _best(lambda: torch.mm(x, y), device)}
    rates["fastest"] = rates["mm"]
    if on_cpu and dtype == "float32" and torch.backends.mkldnn.is_available():
        # Layer-sized: this library is fastest on operands that fit in the cache.
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
    """Wait until the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class Neighbours:
    """Counts the cores that other processes keep busy from now on. Above a few per cent, a run does not count."""

    def __init__(self, process: int) -> None:
        self._own = {*family(process), os.getpid()}
        self._began, self._before = time.monotonic(), self._ticks()

    def cores(self) -> float | None:
        """Cores that other processes kept busy, with the time a hypervisor stole. None if unknown."""
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
    """The most memory that a process and its descendants held since this was made.

    For another process on a GPU, it samples the device's memory in use by all processes but this one every 5 ms.
    """

    def __init__(self, process: int, device: str) -> None:
        self._folders, self._device = [Path(f"/proc/{pid}") for pid in family(process)], device
        self._own = process == os.getpid()
        self._on_gpu = torch.device(device).type == "cuda"
        self._in_use = InUse(device) if self._on_gpu and not self._own else None
        self._how = self._reset()
        self._before = torch.cuda.memory_allocated(device) if self._on_gpu and self._own else self._status("VmRSS")

    def read(self) -> dict[str, Any]:
        """Peak bytes, bytes held before the run, and the source of the peak."""
        peak, before = None, self._before
        if self._in_use:
            peak, before = self._in_use.read()
        elif self._on_gpu:
            peak = torch.cuda.max_memory_allocated(self._device)
        elif self._how == "VmHWM":
            peak = self._status("VmHWM")
        elif self._how == "ru_maxrss":
            # This peak covers the life of the process, so loading counts too.
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"peak_memory_bytes": peak, "held_before_bytes": before, "memory": self._how}

    def _reset(self) -> str:
        if self._in_use:
            return "in use on the device, by all processes but the measuring one"
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
            return "torch.cuda.max_memory_allocated"
        try:
            for folder in self._folders:
                (folder / "clear_refs").write_text("5")  # resets VmHWM to the memory held now
        except OSError:
            return "ru_maxrss" if self._own else "not seen: another process's memory"
        return "VmHWM"

    def _status(self, field: str) -> int:
        texts = [(folder / "status").read_text() for folder in self._folders]
        return sum(int(found[1]) * 1024 for text in texts if (found := re.search(rf"{field}:\s+(\d+) kB", text)))


class InUse:
    """The most GPU memory in use by other processes, from now until it is read."""

    def __init__(self, device: str) -> None:
        self._device, self._ended = device, threading.Event()
        self._before = self._most = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def read(self) -> tuple[int, int]:
        """The most, and the amount at the start, in bytes."""
        self._ended.set()
        self._thread.join()
        return max(self._most, self._now()), self._before

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free - torch.cuda.memory_reserved(self._device)


def family(process: int) -> list[int]:
    """The ids of a process and its descendants."""
    return [process, *(child.pid for child in psutil.Process(process).children(recursive=True))]
