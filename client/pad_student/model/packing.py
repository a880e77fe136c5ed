"""Rows of a batch: divided into forward passes, and packed so that each shared prompt is there once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and its response, and the tokens that it predicts.

    ``prompt`` is all before the first response token. ``rest`` is the response without its last token, which the
    model need not read. ``predicted`` are the places of ``targets``, counted from the row's start.
    """

    prompt: tuple[int, ...]
    rest: tuple[int, ...]
    predicted: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def length(self) -> int:
        """Number of tokens, with the last predicted one."""
        return len(self.prompt) + len(self.rest) + 1


@dataclass(frozen=True, slots=True)
class Group:
    """Places in the packed sequence of a prompt and of its responses, each of which sees the prompt and itself."""

    prompt: slice
    responses: tuple[slice, ...]


@dataclass(slots=True)
class Packed:
    """Rows in one sequence: ``ids_T`` and ``positions_T``, and K predictions, row after row.

    ``predictor_K`` are the places in the sequence that predict, ``target_K`` the token ids predicted. ``longest`` is
    the number of tokens of the longest row.
    """

    ids_T: Tensor
    positions_T: Tensor
    groups: list[Group]
    predictor_K: Tensor
    target_K: Tensor
    longest: int
    windows: list[int | None] = field(default_factory=list)  # that attention layers were called with


def rows_of(input_ids: Tensor, response_mask: Tensor) -> list[Row]:
    """The rows of a batch as ``logprobs.collate`` makes it."""
    rows = []
    for ids, mask in zip(input_ids.tolist(), response_mask.tolist(), strict=True):
        predicted = tuple(place for place, marked in enumerate(mask) if marked)
        targets = tuple(ids[place] for place in predicted)
        rows.append(Row(tuple(ids[: predicted[0]]), tuple(ids[predicted[0] : predicted[-1]]), predicted, targets))
    return rows


def pack(rows: Sequence[Row], device: torch.device) -> Packed:
    """Pack rows; neighbours with the same prompt share it. Each response's positions continue the prompt's."""
    ids: list[int] = []
    positions: list[int] = []
    groups: list[Group] = []
    predictors: list[int] = []
    for prompt, members in groupby(rows, lambda row: row.prompt):
        start, end = len(ids), len(ids) + len(prompt)
        ids += prompt
        positions += range(len(prompt))
        responses = []
        for row in members:
            # The token at place p is predicted at p - 1: in the prompt for the first, in the response for others.
            shift = len(ids) - len(prompt)
            predictors += [end - 1 if place == len(prompt) else place - 1 + shift for place in row.predicted]
            responses.append(slice(len(ids), len(ids) + len(row.rest)))
            ids += row.rest
            positions += range(len(prompt), len(prompt) + len(row.rest))
        groups.append(Group(slice(start, end), tuple(responses)))
    targets = [target for row in rows for target in row.targets]
    tensors = (torch.tensor(values, device=device) for values in (ids, positions, predictors, targets))
    ids_T, positions_T, predictor_K, target_K = tensors
    return Packed(ids_T, positions_T, groups, predictor_K, target_K, longest=max(positions) + 1)


def packed_passes(rows: Sequence[Row], most: int | None) -> Iterator[list[int]]:
    """Row numbers of each forward pass, in order: at most ``most`` tokens or one row; a pass counts a prompt once."""
    numbers: list[int] = []
    size = 0
    for number, row in enumerate(rows):
        shares = numbers and rows[numbers[-1]].prompt == row.prompt
        cost = len(row.rest) + (0 if shares else len(row.prompt))
        if numbers and most is not None and size + cost > most:
            yield numbers
            numbers, size = [], 0
            cost = len(row.rest) + len(row.prompt)
        numbers.append(number)
        size += cost
    yield numbers


def padded_passes(rows: Sequence[Row], most: int | None) -> Iterator[list[int]]:
    """Row numbers of each forward pass: at most ``most`` tokens, padding included, or one row; longest rows first."""
    if most is None:
        yield list(range(len(rows)))
        return
    numbers: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: -rows[number].length):
        if numbers and rows[numbers[0]].length * (len(numbers) + 1) > most:
            yield numbers
            numbers = []
        numbers.append(number)
    yield numbers


# pyright: standard
