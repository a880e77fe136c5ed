"""Row keys: queries divided into rows, each addressed by a hash of all that its value depends on.

A row is one response after its prompt, one question with its labels, one question in words, or one text to echo. Its
value is one float32 array: [tokens], [labels], all numbers of the echo, or a distribution as
``engines/distributions.py`` packs it.
The number of likeliest ids that a distribution names is not in its key: a row of many ids answers for one of few.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pad_teacher.engines.distributions import ids_of_row
from pad_teacher.engines.queries import (
    Answer,
    AnyQuery,
    ChatQuestion,
    Echo,
    EchoLogprobs,
    FloatArray,
    NextTokens,
    Questions,
    TokenSet,
)


def row_keys(scorer: bytes, query: AnyQuery) -> list[bytes]:
    """The 32-byte key of each row: a digest of its token ids and of ``scorer``."""
    match query:
        case TokenSet(prompt_ids, response_ids):
            start = _digest(scorer, b"response", prompt_ids)
            return [_key(start, ids) for ids in response_ids]
        case NextTokens(TokenSet(prompt_ids, response_ids), _, below, None, reference):
            start = _digest(scorer, b"pair" if reference else b"next", [below, *prompt_ids])
            return [_key(start, ids) for ids in response_ids]
        case NextTokens(TokenSet(prompt_ids, response_ids), top, _, at, reference):
            start = _digest(scorer, b"pair at" if reference else b"at", [top, *prompt_ids])
            pairs = zip(response_ids, at or [], strict=True)
            return [_key(start, [len(ids), *ids, *named.ravel().tolist()]) for ids, named in pairs]
        case Questions(prompts, label_ids):
            start = _digest(scorer, b"question", label_ids)
            return [_key(start, ids) for ids in prompts]
        case Echo(ids, top, everywhere):
            return [_key(_digest(scorer, b"echo", [top, everywhere]), ids)]
        case ChatQuestion(turns, begun, labels, vote):
            start = _digest(scorer, b"chat", [labels] if vote is None else [labels, vote])
            return [_key(start, list(json.dumps([turns, begun]).encode()))]


def number_of_rows(query: AnyQuery) -> int:
    """How many rows a query has."""
    match query:
        case TokenSet(_, response_ids) | NextTokens(TokenSet(_, response_ids)):
            return len(response_ids)
        case Questions(prompts, _):
            return len(prompts)
        case Echo() | ChatQuestion():
            return 1


def subset(query: AnyQuery, rows: Sequence[int]) -> AnyQuery:
    """The query that asks only for these of its rows."""
    match query:
        case TokenSet(prompt_ids, response_ids) if len(rows) < len(response_ids):
            return TokenSet(prompt_ids, [response_ids[i] for i in rows])
        case NextTokens(tokens, at=at) if len(rows) < len(tokens.response_ids):
            fewer = TokenSet(tokens.prompt_ids, [tokens.response_ids[i] for i in rows])
            return replace(query, tokens=fewer, at=None if at is None else [at[i] for i in rows])
        case Questions(prompts, label_ids) if len(rows) < len(prompts):
            return Questions([prompts[i] for i in rows], label_ids)
        case _:
            return query


def depth(query: AnyQuery) -> int:
    """How many ids its rows name, if rows with the same keys may name more or fewer; else 0."""
    return query.top if isinstance(query, NextTokens) and query.at is None else 0


def answers_for(query: AnyQuery, row: int, value: FloatArray) -> bool:
    """Whether a value under the key of this row names enough ids."""
    if not isinstance(query, NextTokens):
        return True
    tokens = len(query.tokens.response_ids[row])
    return ids_of_row(len(value), tokens, reference=query.reference) >= query.top


def split_rows(answer: Answer) -> list[FloatArray]:
    """The value of each row of an answer."""
    if isinstance(answer, EchoLogprobs):
        # Ids are kept as the floats with the same bits, which are finite: an id is far below the bits of infinity.
        ids = answer.top_ids.astype(np.int32).view(np.float32)
        return [np.concatenate([answer.token_logprobs, answer.top_logprobs.ravel(), ids.ravel()])]
    return answer


def join_rows(query: AnyQuery, rows: Iterator[FloatArray]) -> Answer:
    """The answer to ``query``; takes the value of each of its rows from ``rows``."""
    match query:
        case TokenSet(_, parts) | Questions(parts, _) | NextTokens(TokenSet(_, parts)):
            return [next(rows) for _ in parts]
        case ChatQuestion():
            return [next(rows)]
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
