"""The memory of a forward pass, predicted before it runs: linear in tokens, measured on two small passes."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pad_teacher.engines.embedded.output_head import OutputHead, chunk_bytes
from pad_teacher.engines.embedded.rows import Row

ROW, TRIALS = 64, (4, 12)  # tokens of a row, and rows: short ones, so that attention scores count for little


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Bytes besides the weights: the peak of the layers or that of the output head, whichever is larger."""

    fixed: float
    per_token: float
    per_prediction: int
    head: OutputHead

    @classmethod
    def measure(cls, run: Callable[[Sequence[Row]], Tensor], head: OutputHead, device: torch.device) -> "MemoryModel":
        """Measure ``run``, which runs the layers over rows and returns hidden states ``[K, D]``."""

        def trial(count: int) -> list[Row]:
            # Each begins with a token of its own, so that they share no prefix.
            ids = [np.append(i, np.zeros(ROW - 1, np.int64)) for i in range(count)]
            return [Row(row, ROW - 1, row[-1:, None], ROW) for row in ids]

        hidden_K_D = run(trial(TRIALS[0]))  # warm up: what is allocated once and kept must not count
        small, large = (peak_bytes(partial(run, trial(count)), device) for count in TRIALS)
        per_token = (large - small) / (TRIALS[1] - TRIALS[0]) / ROW
        fixed = max(0.0, small - per_token * TRIALS[0] * ROW)
        return cls(fixed, per_token, hidden_K_D.shape[1] * hidden_K_D.element_size(), head)

    def predict(self, tokens: int, predictions: int, *, top: int = 0, results: int = 0) -> int:
        """Peak bytes of a pass over ``tokens``, of which ``predictions`` positions go through the output head.

        ``top`` is how many likeliest tokens are read at a position, ``results`` the bytes of all that is read.
        """
        layers = self.fixed + self.per_token * tokens
        head = predictions * self.per_prediction + chunk_bytes(self.head, predictions, top) + results
        return int(max(layers, head))

    def predict_rows(self, tokens: int, rows: Sequence[Row]) -> int:
        """Peak bytes of a pass over ``tokens`` that answers ``rows``."""
        predictions, results = sum(len(row.targets) for row in rows), sum(row.result_bytes for row in rows)
        return self.predict(tokens, predictions, top=max(row.top for row in rows), results=results)


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """The most bytes that ``call`` holds at a time in tensors it makes."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with _StorageCounter() as counter:
        call()
    return counter.peak


class _StorageCounter(TorchDispatchMode):
    """Adds up the storages that operations make, until each is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {id(arg.untyped_storage()) for arg in args if isinstance(arg, Tensor) and not arg.is_mkldnn}
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, Tensor) and not made.is_mkldnn:
                self._add(made.untyped_storage(), inputs)
        return result

    def _add(self, storage: Any, inputs: set[int]) -> None:
        if id(storage) in inputs or storage in self._known:  # a view, or an operation in place
            return
        size = storage.nbytes()
        self._known.add(storage)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.held -= size


# pyright: standard
