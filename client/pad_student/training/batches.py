"""From a dataset to rows that can be trained on, and from scored sets to the tensors of one batch.

Axes: P prompts · N responses · B rows = P·N · L row length.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pad_student.data.prompts import PromptLine, prompt_lines, try_templates
from pad_student.data.readers import PlacedRow, placed_rows
from pad_student.errors import DatasetError
from pad_student.model.logprobs import collate
from pad_student.preference.config import PADConfig
from pad_student.preference.rewards import Normalization, calibrated_reward, utf8_lengths
from pad_student.sampling.generate import fits
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder
from pad_wire.validation import InvalidBody, validated

logger = logging.getLogger(__name__)

TrainingRow = PromptLine | ScoredSet


def as_rows(dataset: Iterable[Any] | str | Path) -> list[TrainingRow]:
    """Rows of any dataset, scored sets first. A row without responses is a prompt, to be sampled for.

    Args:
        dataset: rows, a ``datasets.Dataset``, or a source that ``data.prompts.read_prompts`` reads: a file, a
            directory, or a dataset's name on the Hub. ``data.rows.prompt_of`` lists the shapes of a prompt row.

    Raises:
        DatasetError: for a row with responses that is no valid scored set, and for a dataset of several splits.
        PromptsError: for a row without a prompt, for two prompts under one id, and for data that cannot be read.
    """
    if isinstance(dataset, Mapping):
        raise DatasetError(f"the dataset has the splits {', '.join(dataset)}: give one of them, as dataset['train']")
    if isinstance(dataset, str | Path):
        name, placed = str(dataset), placed_rows(Path(dataset))
    else:
        name, placed = "train_dataset", ((f"row {number}", row) for number, row in enumerate(dataset))
    scored: list[TrainingRow] = []
    prompts: list[PlacedRow] = []  # only the prompts: a row's other columns may be far longer
    for where, row in placed:
        if isinstance(row, ScoredSet):
            scored.append(row)
        elif isinstance(row, Mapping) and row.get("responses") is not None:
            scored.append(_scored_set(f"{name}, {where}", row))
        else:
            prompts += [(where, line) for line in prompt_lines(name, [(where, row)])]
    return scored + prompt_lines(name, prompts)


def split_sets(sets: Sequence[ScoredSet], n: int, parts: int) -> list[ScoredSet]:
    """A fixed decomposition: each set's ``n`` responses in ``parts`` smaller sets, part after part.

    Raises:
        DatasetError: if a set has another number of responses than ``n``.
    """
    for each in sets:
        if len(each.responses) != n:
            raise DatasetError(f"set {each.id!r} has {len(each.responses)} responses, and n is {n}")
    if parts == 1:
        return list(sets)
    return [
        each.model_copy(update={"id": f"{each.id}/{part}", "responses": each.responses[part::parts]})
        for part in range(parts)
        for each in sets
    ]


def usable_rows(
    rows: Sequence[TrainingRow], model: Any, encoder: ChatEncoder, config: PADConfig, *, scores_more: bool
) -> list[TrainingRow]:
    """The rows that can be trained on, scored sets decomposed; the log reports how many are left out.

    A prompt is left out if it has no room for a response in the student's context; a scored set also if the teacher
    truncated one of its responses.

    Args:
        rows: all prompts, or all scored sets.
        model: the student.
        encoder: the student's.
        config: the run's ``n``, ``parts`` and ``max_response_tokens``.
        scores_more: whether there is a teacher, which prompts need.

    Raises:
        DatasetError: for a mixture of prompts and scored sets, for prompts without a teacher, and if no row is left.
        PromptsError: for a prompt that the student's template refuses.
    """
    prompts = [row for row in rows if isinstance(row, PromptLine)]
    sets = [row for row in rows if isinstance(row, ScoredSet)]
    if prompts and sets:
        raise DatasetError("the dataset mixes prompts with scored sets; train on one kind at a time")
    if prompts and not scores_more:
        raise DatasetError("the dataset has prompts without scores: give the trainer a teacher, or score them first")
    try_templates("train_dataset", [*prompts, *sets], encoder)
    usable: list[TrainingRow] = [
        each for each in prompts if fits(model, encoder, each.prompt, config.max_response_tokens)
    ]
    usable += [each for each in split_sets(sets, config.n, config.parts) if _can_train_on(model, encoder, each)]
    left_out = len(prompts) + len(sets) * config.parts - len(usable)
    if left_out and config.process_index == 0:
        logger.warning("%d rows exceed the student's or the teacher's context and are left out", left_out)
    if not usable:
        raise DatasetError("the dataset has no row that fits the student's context")
    return usable


def batch_of(
    sets: Sequence[ScoredSet], encoder: ChatEncoder, *, alpha: float, normalization: Normalization = "mean"
) -> dict[str, Tensor]:
    """Tokenise scored sets for the student and compute the teacher's rewards.

    Args:
        sets: P scored sets with N responses each.
        encoder: the student's.
        alpha: weight of the log selection probability in the reward, in [0, 1]; see ``calibrated_reward``.
        normalization: how log-likelihoods are normalised; see ``likelihood_reward``.

    Returns:
        ``input_ids``, ``attention_mask`` and ``response_mask`` [B, L] as ``logprobs.collate`` makes them;
        ``rewards_teacher`` float32 [P, N]; ``text_bytes`` [P, N]; ``same_text``, the place of the first response of
        the set with the same text, [P, N]; ``cut`` bool [P, N]; and ``label_mass``, ``order_disagreement`` and
        ``selection_spread`` [P], each if all sets have it.

    Raises:
        RewardError: for a number that is missing or cannot be used.
    """
    prompt_ids, response_ids = [], []
    for each in sets:
        rows = encoder.response_ids([r.text for r in each.responses], [r.finished for r in each.responses])
        prompt_ids += [encoder.prompt_ids(each.prompt)] * len(rows)
        response_ids += rows
    batch = collate(prompt_ids, response_ids, pad_id=encoder.end_of_turn)._asdict()
    text_bytes_P_N = utf8_lengths([[response.text for response in each.responses] for each in sets])
    rewards_P_N = calibrated_reward(
        torch.tensor([[r.log_likelihood for r in each.responses] for each in sets], dtype=torch.float64),
        torch.tensor([[r.tokens for r in each.responses] for each in sets]),
        [[r.selection_probability for r in each.responses] for each in sets],
        alpha,
        normalization,
        text_bytes_P_N,
        _unconditional(sets) if normalization == "relative" else None,
    )
    batch |= {"rewards_teacher": rewards_P_N.float(), "text_bytes": text_bytes_P_N}
    texts = [[(response.text, response.finished) for response in each.responses] for each in sets]
    batch["same_text"] = torch.tensor([[of_set.index(text) for text in of_set] for of_set in texts])
    batch["cut"] = torch.tensor([[not finished for _, finished in of_set] for of_set in texts])
    return batch | _choice_of(sets)


def _choice_of(sets: Sequence[ScoredSet]) -> dict[str, Tensor]:
    """Measures of whether the teacher's choice means anything, [P] each; only those that all sets have."""
    measures = {
        "label_mass": [each.label_mass for each in sets],
        "order_disagreement": [each.order_disagreement for each in sets],
        "selection_spread": [_selection_spread(each) for each in sets],
    }
    return {
        name: torch.tensor(values, dtype=torch.float32)
        for name, values in measures.items()
        if all(value is not None for value in values)
    }


def _selection_spread(scored: ScoredSet) -> float | None:
    """Total variation between the selection probabilities and equal ones, 0 to 1; None if choice was not asked."""
    chosen = [each.selection_probability for each in scored.responses if each.selection_probability is not None]
    if len(chosen) != len(scored.responses) or not sum(chosen):
        return None
    return sum(abs(value / sum(chosen) - 1 / len(chosen)) for value in chosen) / 2


def _unconditional(sets: Sequence[ScoredSet]) -> Tensor | None:
    values = [[r.unconditional_log_likelihood for r in each.responses] for each in sets]
    if any(value is None for row in values for value in row):
        return None
    return torch.tensor(values, dtype=torch.float64)


def _can_train_on(model: Any, encoder: ChatEncoder, scored: ScoredSet) -> bool:
    """Whether the set fits the student, and the teacher's numbers cover the whole text."""
    if any(response.truncated for response in scored.responses):
        return False
    responses = encoder.response_ids([r.text for r in scored.responses], [r.finished for r in scored.responses])
    return fits(model, encoder, scored.prompt, max(map(len, responses)))


def _scored_set(where: str, row: Mapping[str, Any]) -> ScoredSet:
    try:
        return validated(ScoredSet, _without_none(row))
    except InvalidBody as error:
        raise DatasetError(f"{where}: {error.detail.where or 'a scored set'}: {error.detail.message}") from None


def _without_none(value: Any) -> Any:
    """Arrow tables write None if a row lacks a field that others have."""
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


# pyright: standard
