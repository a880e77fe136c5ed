"""From scored sets with distributions to the tensors of one batch of DCKD or ADPA.

Axes: P prompts · B rows · L row length · T scored tokens of all rows · A actions: the named tokens, and the rest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pad_student.errors import DatasetError
from pad_student.model.logprobs import collate
from pad_student.storage.token_tables import TokenTable, decoded, why_wrong
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder


def token_batch_of(sets: Sequence[ScoredSet], encoder: ChatEncoder, *, reference: bool) -> dict[str, Tensor]:
    """Tokenise scored sets for the student, and join the teacher's distributions.

    Args:
        sets: P scored sets with N responses each, and with ``token_tables``.
        encoder: the student's.
        reference: whether the reference's distributions and each set's ``answer`` are needed too, as by ADPA. The
            answer is then the last row of each set, and has no distributions: its ``named_T_A`` stand for nothing.

    Returns:
        ``input_ids``, ``attention_mask`` and ``response_mask`` as ``logprobs.collate`` makes them; ``tokens_B``, the
        scored tokens of each row; ``named_T_A`` token ids without the rest; ``teacher_T_A`` and ``reference_T_A``
        with it, float32; ``cut`` bool [P, N].

    Raises:
        DatasetError: for a set without what is needed, and for a teacher with other token ids than the student's.
    """
    prompt_ids, response_ids, tables = [], [], []
    for each in sets:
        texts, finished = [r.text for r in each.responses], [r.finished for r in each.responses]
        found = _tables_of(each, reference=reference)
        if reference:
            texts, finished = [*texts, each.answer or ""], [*finished, True]
        rows = encoder.response_ids(texts, finished)
        _check_ids(each, rows, found)
        if reference:
            found.append(_of_nothing(len(rows[-1]), found[0]))
        prompt_ids += [encoder.prompt_ids(each.prompt)] * len(rows)
        response_ids += rows
        tables += found
    batch: dict[str, Tensor] = dict(collate(prompt_ids, response_ids, pad_id=encoder.end_of_turn)._asdict())
    batch["tokens_B"] = torch.tensor([len(ids) for ids in response_ids])
    batch["named_T_A"] = torch.from_numpy(np.concatenate([t.arrays["top_ids"] for t in tables]).astype(np.int64))
    batch["teacher_T_A"] = _distributions(tables, "top_logprobs", "rest")
    if reference:
        batch["reference_T_A"] = _distributions(tables, "reference_logprobs", "reference_rest")
    batch["cut"] = torch.tensor([[not response.finished for response in each.responses] for each in sets])
    return batch


def empty_token_batch(rows: int, token: int, *, reference: bool) -> dict[str, Tensor]:
    """A batch that weighs nothing, with the rows of one set: every process must run as often as the others."""
    alike = [[token]] * rows
    batch: dict[str, Tensor] = dict(collate(alike, alike, pad_id=token)._asdict())
    even_T_A = torch.full((rows, 2), 0.5).log()
    batch |= {"tokens_B": torch.ones(rows, dtype=torch.long), "named_T_A": torch.zeros(rows, 1, dtype=torch.long)}
    batch |= {"teacher_T_A": even_T_A, **({"reference_T_A": even_T_A} if reference else {})}
    return batch | {"cut": torch.zeros(1, rows - reference, dtype=torch.bool)}


def check_learnable(each: ScoredSet, *, reference: bool) -> None:
    """Refuse a set without what a token-level method needs, before its tables are read.

    Raises:
        DatasetError: naming the set, and what it lacks.
    """
    if each.token_tables is None:
        raise DatasetError(f"set {each.id!r} has no token_tables: score it with this method's distributions")
    if reference and not each.answer:
        raise DatasetError(f"set {each.id!r} has no answer, which adpa learns from too: give data with chosen")
    if reference and each.reference is None:
        raise DatasetError(f"set {each.id!r} was scored without the teacher's reference, which adpa needs")


def _tables_of(each: ScoredSet, *, reference: bool) -> list[TokenTable]:
    check_learnable(each, reference=reference)
    tables = decoded(each.token_tables or "")
    for table in tables:
        if problem := why_wrong(table.arrays, reference=reference):
            raise DatasetError(f"set {each.id!r}: {problem}")
    return tables


def _check_ids(each: ScoredSet, rows: Sequence[Sequence[int]], tables: Sequence[TokenTable]) -> None:
    for j, (ids, table) in enumerate(zip(rows, tables, strict=False)):
        if list(ids) != table.arrays["token_ids"].tolist():
            raise DatasetError(
                f"set {each.id!r}, response {j}: the teacher's token ids are not the student's; both need one"
                " tokenizer and one end of a turn"
            )


def _of_nothing(tokens: int, like: TokenTable) -> TokenTable:
    """The table of a response that is learnt by its likelihood alone: any ids, equal distributions."""
    top = like.arrays["top_ids"].shape[1]
    even = np.full((tokens, top), -np.log(top + 1), np.float32)
    arrays: dict[str, Any] = {"top_ids": np.arange(top)[None].repeat(tokens, 0)}
    arrays |= dict.fromkeys(("top_logprobs", "reference_logprobs"), even)
    return TokenTable(arrays | dict.fromkeys(("rest", "reference_rest"), even[:, 0]))


def _distributions(tables: Sequence[TokenTable], values: str, rest: str) -> Tensor:
    rows = [np.column_stack([t.arrays[values].astype(np.float32), t.arrays[rest]]) for t in tables]
    return torch.from_numpy(np.concatenate(rows))


# pyright: standard
