"""Two models as one engine: the aligned teacher, and the reference that it was aligned from."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from pad_teacher.engines.base import Engine
from pad_teacher.engines.distributions import unpacked, with_reference
from pad_teacher.engines.queries import Answer, FloatArray, IntArray, NextTokens, Query


class PairEngine(Engine):
    """Answers as the teacher does; a query that asks for the reference is then asked of it too, at the teacher's ids.

    - The two run one after the other, so each may take the memory that is free.
    - Ids past the smaller vocabulary are part of the rest.
    """

    def __init__(self, teacher: Engine, reference: Engine) -> None:
        self.teacher, self.reference = teacher, reference
        self.name, self.dtype = teacher.name, teacher.dtype
        self.vocabulary = min(teacher.vocabulary, reference.vocabulary)
        self.max_context_tokens = min(teacher.max_context_tokens, reference.max_context_tokens)
        self.concurrent_batches = min(teacher.concurrent_batches, reference.concurrent_batches)
        self.scores_given_ids, self.most_ids = teacher.scores_given_ids, teacher.most_ids

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``Engine``."""
        answers = self.teacher.score(queries)
        pairs = [
            (place, query) for place, query in enumerate(queries) if isinstance(query, NextTokens) and query.reference
        ]
        asked = [_at_same_ids(query, cast(list[FloatArray], answers[place])) for place, query in pairs]
        told = self.reference.score(asked) if asked else []
        for (place, query), more in zip(pairs, told, strict=True):
            rows = zip(
                cast(list[FloatArray], answers[place]),
                cast(list[FloatArray], more),
                query.tokens.response_ids,
                strict=True,
            )
            answers[place] = [with_reference(row, other, len(ids)) for row, other, ids in rows]
        return answers

    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """See ``Engine``; of the teacher. The reference has a golden check of its own."""
        return self.teacher.reference_logprobs(prompt_ids, response_ids)

    def reference_label_logprobs(self, prompt_ids: list[int], label_ids: list[int]) -> FloatArray:
        """See ``Engine``: the teacher's."""
        return self.teacher.reference_label_logprobs(prompt_ids, label_ids)

    def digest(self) -> str:
        """See ``Engine``; over both models."""
        return hashlib.sha256(f"{self.teacher.digest()} {self.reference.digest()}".encode()).hexdigest()

    def check(self) -> None:
        """See ``Engine``."""
        self.teacher.check()
        self.reference.check()

    def close(self) -> None:
        """See ``Engine``."""
        self.teacher.close()
        self.reference.close()


def _at_same_ids(query: NextTokens, rows: Sequence[FloatArray]) -> NextTokens:
    at: list[IntArray] = [
        unpacked(row, len(ids)).ids_T_K.astype(np.int64)
        for row, ids in zip(rows, query.tokens.response_ids, strict=True)
    ]
    return replace(query, at=at, reference=False)
