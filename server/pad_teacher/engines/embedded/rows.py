"""Queries as rows: token ids to run, and the targets to read from the predictions at their end."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pad_teacher.engines.distributions import packed
from pad_teacher.engines.queries import (
    Answer,
    Echo,
    EchoLogprobs,
    FloatArray,
    IntArray,
    NextTokens,
    Query,
    Questions,
    TokenSet,
    shared_tokens,
)

MIN_SHARED = 16  # tokens: computing fewer again costs less than one more step of attention


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one sequence, the first position whose prediction is wanted, and each prediction's targets.

    ``targets`` [K, targets of a prediction] are token ids. ``cost`` is about the number of tokens to compute, given
    that the prefix shared with the previous row is there already. ``top`` asks for that many likeliest tokens too,
    of those below ``below``. ``at`` says that all targets after the first are a part of the vocabulary, whose rest is
    asked for.
    """

    ids_L: IntArray
    start: int
    targets: IntArray
    cost: int
    top: int = 0
    below: int | None = None
    at: bool = False

    @property
    def result_bytes(self) -> int:
        """Bytes of its targets and of all that is read for it."""
        return len(self.targets) * (8 * self.top + 12 * self.targets.shape[1])

    @property
    def kind(self) -> tuple[bool, int | None, int]:
        """Rows of one kind are projected together."""
        return self.top > 0, self.below, self.targets.shape[1] if self.at else 0


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """Log-probabilities of a row's targets, in their shape, and of the likeliest tokens [K, top] with their ids.

    ``rest`` [K] is that of all tokens besides the likeliest, or besides the targets after the first.
    """

    target_logprobs: FloatArray
    top_ids: IntArray
    top_logprobs: FloatArray
    rest: FloatArray


def _shared(ids: IntArray, before: IntArray) -> int:
    shared = shared_tokens(ids, before)
    return shared if shared >= MIN_SHARED else 0


def rows_of(query: Query) -> list[Row]:
    """The rows that answer one query."""
    match query:
        case TokenSet(prompt_ids, response_ids):
            prompt, start = np.asarray(prompt_ids), len(prompt_ids) - 1
            responses = [np.asarray(ids) for ids in response_ids]
            again = len(prompt) if len(prompt) < MIN_SHARED else 0
            # Nobody asks for the prediction at the last token of a response.
            return [
                Row(
                    np.concatenate([prompt, ids[:-1]]),
                    start,
                    ids[:, None],
                    len(ids) - 1 + (again if j else len(prompt)),
                )
                for j, ids in enumerate(responses)
            ]
        case NextTokens(tokens, top, below, at):
            rows = rows_of(tokens)
            if at is None:
                return [replace(row, top=top, below=below) for row in rows]
            with_ids = [np.concatenate([row.targets, ids], 1) for row, ids in zip(rows, at, strict=True)]
            return [replace(row, targets=targets, at=True) for row, targets in zip(rows, with_ids, strict=True)]
        case Questions(prompts, label_ids):
            texts, labels = [np.asarray(ids) for ids in prompts], np.asarray(label_ids)[None]
            before = [texts[0][:0], *texts[:-1]]
            return [
                Row(ids, len(ids) - 1, labels, len(ids) - _shared(ids, other))
                for ids, other in zip(texts, before, strict=True)
            ]
        case Echo(text, top, everywhere):
            ids = np.asarray(text)
            # The token after the last one is not known: its target is a placeholder, and ``answer`` drops it.
            targets = np.append(ids[1:], 0)[:, None] if everywhere else np.zeros((1, 1), np.int64)
            return [Row(ids, 0 if everywhere else len(ids) - 1, targets, len(ids), top)]


def answer(query: Query, scored: Iterator[RowLogprobs]) -> Answer:
    """The answer to one query; takes the results of its rows from ``scored``."""
    match query:
        case TokenSet(_, response_ids):
            return [next(scored).target_logprobs[:, 0] for _ in response_ids]
        case NextTokens(tokens, _, _, None):
            rows = [next(scored) for _ in tokens.response_ids]
            return [packed(row.target_logprobs[:, 0], row.rest, row.top_ids, row.top_logprobs) for row in rows]
        case NextTokens(_, _, _, at):
            rows = [(ids, next(scored)) for ids in at or []]
            return [packed(row.target_logprobs[:, 0], row.rest, ids, row.target_logprobs[:, 1:]) for ids, row in rows]
        case Questions(prompts, _):
            return [next(scored).target_logprobs[0] for _ in prompts]
        case Echo():
            row = next(scored)
            return EchoLogprobs(row.target_logprobs[:-1, 0], row.top_ids.astype(np.int64), row.top_logprobs)
