"""Row keys: queries divided into rows, each addressed by a hash of all that its value depends on.

A row is one response after its prompt, one question with its labels, or one text to echo. Its value is one float32
array: [tokens], [labels], or all numbers of the echo.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pad_teacher.engines.queries import Answer, Echo, EchoLogprobs, FloatArray, Query, Questions, TokenSet


def row_keys(scorer: bytes, query: Query) -> list[bytes]:
    """The 32-byte key of each row: a digest of its token ids and of ``scorer``."""
    match query:
        case TokenSet(prompt_ids, response_ids):
            start = _digest(scorer, b"response", prompt_ids)
            return [_key(start, ids) for ids in response_ids]
        case Questions(prompts, label_ids):
            start = _digest(scorer, b"question", label_ids)
            return [_key(start, ids) for ids in prompts]
        case Echo(ids, top, everywhere):
            return [_key(_digest(scorer, b"echo", [top, everywhere]), ids)]


def subset(query: Query, rows: Sequence[int]) -> Query:
    """The query that asks only for these of its rows."""
    match query:
        case TokenSet(prompt_ids, response_ids) if len(rows) < len(response_ids):
            return TokenSet(prompt_ids, [response_ids[i] for i in rows])
        case Questions(prompts, label_ids) if len(rows) < len(prompts):
            return Questions([prompts[i] for i in rows], label_ids)
        case _:
            return query


def split_rows(answer: Answer) -> list[FloatArray]:
    """The value of each row of an answer."""
    if isinstance(answer, EchoLogprobs):
        # Ids are kept as the floats with the same bits, which are finite: an id is far below the bits of infinity.
        ids = answer.top_ids.astype(np.int32).view(np.float32)
        return [np.concatenate([answer.token_logprobs, answer.top_logprobs.ravel(), ids.ravel()])]
    return answer


def join_rows(query: Query, rows: Iterator[FloatArray]) -> Answer:
    """The answer to ``query``; takes the value of each of its rows from ``rows``."""
    match query:
        case TokenSet(_, parts) | Questions(parts, _):
            return [next(rows) for _ in parts]
        case Echo(ids, _, everywhere):
            row = next(rows)
            tokens, positions = (len(ids) - 1, len(ids)) if everywhere else (0, 1)
            values, top_ids = row[tokens:].reshape(2, positions, -1)
            return EchoLogprobs(row[:tokens], top_ids.view(np.int32).astype(np.int64), values)


def _digest(scorer: bytes, kind: bytes, ids: Sequence[int]) -> Any:
    digest = hashlib.blake2b(digest_size=32)
    # Each length comes first, so that different rows never give the same bytes.
    digest.update(b"%d:%s%d:%s%d:" % (len(scorer), scorer, len(kind), kind, len(ids)))
    digest.update(array("I", ids))
    return digest


def _key(start: Any, ids: Sequence[int]) -> bytes:
    digest = start.copy()
    digest.update(array("I", ids))
    return digest.digest()
