"""From a dataset to rows that can be trained on, and from scored sets to the tensors of one batch.

Axes: P prompts · N responses · B rows = P·N · L row length.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pad_student.data.drawn_ids import drawn_ids, ids_of
from pad_student.data.prompts import PromptLine, PromptOptions, prompt_lines
from pad_student.data.readers import PlacedRow, placed_rows
from pad_student.errors import DatasetError
from pad_student.model.logprobs import collate
from pad_student.preference.rewards import utf8_lengths
from pad_student.preference.set_rewards import teacher_rewards
from pad_student.preference.settings import Normalization
from pad_student.storage.stored_lines import StoredLines
from pad_student.teacher.options import ScoreOptions
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder
from pad_wire.validation import InvalidBody, validated

TrainingRow = PromptLine | ScoredSet


def as_rows(
    dataset: Iterable[Any] | str | Path,
    *,
    pairs: bool = False,
    system: str | None = None,
    name: str = "train_dataset",
) -> Sequence[TrainingRow]:
    """Rows of any dataset, scored sets first. A row without responses is a prompt, to be sampled for.

    Args:
        dataset: rows, stored lines of scored sets, which stay on the disk, a ``datasets.Dataset``, or a source that
            ``data.prompts.read_prompts`` reads: a file, a directory, or a dataset's name on the Hub.
            ``data.rows.prompt_of`` lists the shapes of a prompt row.
        pairs: whether a prompt needs a chosen and a rejected answer; ``data.pairs.pair_of`` lists their shapes.
        system: system prompt for prompts that have none of their own.
        name: of a dataset that is no file, in messages.

    Raises:
        DatasetError: for a row with responses that is no valid scored set, and for a dataset of several splits.
        PromptsError: for a row without a prompt, for two prompts under one id, and for data that cannot be read.
    """
    if isinstance(dataset, Mapping):
        raise DatasetError(f"{name} has the splits {', '.join(dataset)}: give one of them, as in dataset['train']")
    if isinstance(dataset, StoredLines):
        return cast("StoredLines[ScoredSet]", dataset)
    if isinstance(dataset, str | Path):
        name, placed = str(dataset), placed_rows(Path(dataset))
    else:
        placed = ((f"row {number}", row) for number, row in enumerate(dataset))
    scored: list[TrainingRow] = []

    def others() -> Iterator[PlacedRow]:
        for where, row in placed:
            if isinstance(row, ScoredSet):
                scored.append(row)
            elif isinstance(row, Mapping) and row.get("responses") is not None:
                scored.append(_scored_set(f"{name}, {where}", row))
            else:
                yield where, row

    prompts = prompt_lines(name, others(), PromptOptions(pairs=pairs, system=system))
    return scored + prompts


def judging_options(config: Any) -> ScoreOptions:
    """How responses are scored that are compared and not learnt from: in token-level methods by likelihood alone."""
    return ScoreOptions.of(config) if config.method == "pad" else ScoreOptions(alpha=0.0)


def batch_of(
    sets: Sequence[ScoredSet],
    encoder: ChatEncoder,
    *,
    alpha: float,
    normalization: Normalization = "mean",
    unconditional_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Tokenise scored sets for the student and compute the teacher's rewards.

    Args:
        sets: P scored sets with N responses each.
        encoder: the student's.
        alpha: as for ``teacher_rewards``, like ``normalization`` and ``unconditional_weight``.
        normalization: of likelihoods.
        unconditional_weight: of a relative likelihood.

    Returns:
        ``input_ids``, ``attention_mask`` and ``response_mask`` [B, L] as ``logprobs.collate`` makes them, of the ids
        that the student drew; ``rewards_teacher`` float32 [P, N]; ``text_bytes`` [P, N]; ``same_text``, the place of
        the first response of the set with the same text, [P, N]; ``cut`` and ``other_ids``, whether these ids are not
        those of the text, bool [P, N]; and ``label_mass``, ``order_disagreement``, ``orders_asked`` and
        ``selection_spread`` of the sets that were asked about, each if all of them have it.

    Raises:
        RewardError: for a number that is missing or cannot be used.
    """
    prompt_ids, response_ids = [], []
    for each in sets:
        rows = ids_of(encoder, each.responses)
        prompt_ids += [encoder.prompt_ids(each.prompt)] * len(rows)
        response_ids += rows
    batch = collate(prompt_ids, response_ids, pad_id=encoder.end_of_turn)._asdict()
    text_bytes_P_N = utf8_lengths([[response.text for response in each.responses] for each in sets])
    rewards_P_N = teacher_rewards(
        sets, alpha=alpha, normalization=normalization, unconditional_weight=unconditional_weight
    )
    batch |= {"rewards_teacher": rewards_P_N.float(), "text_bytes": text_bytes_P_N}
    texts = [[(response.text, response.finished) for response in each.responses] for each in sets]
    batch["same_text"] = torch.tensor([[of_set.index(text) for text in of_set] for of_set in texts])
    batch["cut"] = torch.tensor([[not finished for _, finished in of_set] for of_set in texts])
    drawn = [drawn_ids(encoder, each.responses) for each in sets]
    batch["other_ids"] = torch.tensor([[ids is not None for ids in of_set] for of_set in drawn])
    return batch | _choice_of(sets)


def empty_batch(n: int, token: int) -> dict[str, Tensor]:
    """A batch that weighs nothing: every process must go forward and backward as often as the others.

    Args:
        n: responses of a prompt.
        token: any valid token id.
    """
    rows = [[token]] * n
    alike_P_N, length_P_N = torch.zeros(1, n), torch.ones(1, n, dtype=torch.long)
    batch = collate(rows, rows, pad_id=token)._asdict()
    batch |= {"rewards_teacher": alike_P_N, "text_bytes": length_P_N}
    none_P_N = torch.zeros_like(alike_P_N, dtype=torch.bool)
    return batch | {"same_text": torch.zeros_like(length_P_N), "cut": none_P_N, "other_ids": none_P_N}


def _choice_of(sets: Sequence[ScoredSet]) -> dict[str, Tensor]:
    """Measures of whether the teacher's choice means anything; only those that all sets have.

    Each is [sets of two texts and more]: about the others nothing was asked.
    """
    asked = [each for each in sets if each.orders_asked != 0]
    measures = {
        "label_mass": [each.label_mass for each in asked],
        "order_disagreement": [each.order_disagreement for each in asked],
        "orders_asked": [each.orders_asked for each in asked],
        "selection_spread": [_selection_spread(each) for each in asked],
    }
    return {
        name: torch.tensor(values, dtype=torch.float32)
        for name, values in measures.items()
        if values and all(value is not None for value in values)
    }


def _selection_spread(scored: ScoredSet) -> float | None:
    """Total variation between the texts' selection probabilities and equal ones; None if choice was not asked."""
    by_text = {each.text: each.selection_probability for each in scored.responses}
    chosen = [value for value in by_text.values() if value is not None]
    if len(chosen) != len(by_text) or not sum(chosen):
        return None
    return sum(abs(value / sum(chosen) - 1 / len(chosen)) for value in chosen) / 2


def _scored_set(where: str, row: Mapping[str, Any]) -> ScoredSet:
    try:
        known = {name: value for name, value in row.items() if name in ScoredSet.model_fields}
        return validated(ScoredSet, _without_none(known))
    except InvalidBody as error:
        raise DatasetError(f"{where}: {error.detail.where or 'a scored set'}: {error.detail.message}") from None


def _without_none(value: Any) -> Any:
    """Arrow tables write None if a row lacks a field that others have."""
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


# pyright: standard
