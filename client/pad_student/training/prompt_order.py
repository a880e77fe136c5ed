"""The order of prompts under preference decomposing: each step's prompts come up in several steps in a row."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from pad_student.preference.config import PADConfig


def prompts_per_step(config: PADConfig) -> int:
    """Prompts of one optimiser step, over all processes."""
    return config.train_batch_size * config.gradient_accumulation_steps * config.world_size


class DecomposedOrder(Sampler[int]):
    """A shuffled order, cut into steps, each step repeated ``repeats`` times; a last, smaller step is dropped.

    Args:
        rows: number of rows in the dataset.
        step_size: rows of one optimiser step, over all processes.
        repeats: how many steps in a row get the same rows.
        seed: fixes the order; every epoch has its own.
    """

    def __init__(self, rows: int, step_size: int, repeats: int, seed: int) -> None:
        self._rows = rows
        self._step_size = min(step_size, rows)
        self._repeats = repeats
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows // self._step_size * self._step_size * self._repeats

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(self._rows, generator=generator).tolist()
        for start in range(0, len(self) // self._repeats, self._step_size):
            for _ in range(self._repeats):
                yield from order[start : start + self._step_size]


# pyright: standard
