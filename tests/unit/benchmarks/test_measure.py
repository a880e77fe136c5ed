"""The memory that a benchmark's worker measures; the GPU is a fake."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.harness import measure

TOTAL = 1000


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A device of which ``others`` and this process (``own``) hold some bytes."""
    state = SimpleNamespace(others=300, own=100, most=0, looks=0)

    def mem_get_info(_: Any) -> tuple[int, int]:
        state.looks += 1
        return TOTAL - state.others - state.own, TOTAL

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: state.own)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: state.own)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: state.most)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: setattr(state, "most", state.own))
    return state


def test_another_processs_gpu_memory_leaves_out_our_own(gpu: Any) -> None:
    memory = measure.PeakMemory(os.getppid(), "cuda")
    for held in (700, 400):
        gpu.others, looks = held, gpu.looks
        while gpu.looks < looks + 2:  # it samples every few milliseconds
            time.sleep(0.001)
    read = memory.read()
    assert (read["held_before_bytes"], read["peak_memory_bytes"]) == (300, 700)


def test_our_own_gpu_memory_is_what_torch_allocated_since(gpu: Any) -> None:
    gpu.most = 900  # before this run
    memory = measure.PeakMemory(os.getpid(), "cuda")
    gpu.most = max(gpu.most, 250)
    read = memory.read()
    assert (read["held_before_bytes"], read["peak_memory_bytes"]) == (100, 250)
    assert read["memory"] == "torch.cuda.max_memory_allocated"


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


def test_memory_on_a_cpu_includes_the_processs_children() -> None:
    # Not of this process, which other tests may have left children.
    with subprocess.Popen([sys.executable, "-S", "-c", PARENT], stdin=-1, stdout=-1) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert measure.family(parent.pid) == [parent.pid, child]
        alone, both = (measure.PeakMemory(pid, "cpu").read()["held_before_bytes"] for pid in (child, parent.pid))
        parent.communicate(b"\n")
    assert both >= alone + 2**22
