"""Requests to a reference that is another service than its teacher: it is asked at the ids that the teacher named."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from safetensors.numpy import save

from pad_student.teacher.checks.token_replies import ToldSet
from pad_student.teacher.requests.cutting import BYTES_PER_CHARACTER
from pad_wire.chat import as_text


def request_body(told: Sequence[ToldSet], fields: dict[str, Any]) -> bytes:
    """A request in safetensors: the named ids as the tensor ``at``, the other ``fields`` as JSON in the metadata."""
    at = np.concatenate([table.arrays["top_ids"] for each in told for table in each.tables])
    return save({"at": np.ascontiguousarray(at)}, {"request": orjson.dumps(fields).decode()})


def in_bodies(told: Sequence[ToldSet], most_bytes: float) -> Iterator[list[ToldSet]]:
    """Divide sets among requests of at most ``most_bytes`` each, by responses if need be; one response may exceed it.

    A set whose responses are divided comes in several parts.
    """
    body: list[tuple[ToldSet, int, int]] = []
    size = 0
    for each in told:
        prompt = BYTES_PER_CHARACTER * len(as_text(each.sampled.prompt))
        for j, table in enumerate(each.tables):
            own = table.arrays["top_ids"].nbytes + BYTES_PER_CHARACTER * len(each.sampled.responses[j].text)
            if body and size + own + prompt > most_bytes:
                yield [whole.of_responses(*place) for whole, *place in body]
                body, size = [], 0
            if body and body[-1][0] is each:
                body[-1] = (each, body[-1][1], j + 1)
            else:
                body.append((each, j, j + 1))
                size += prompt
            size += own
    if body:
        yield [whole.of_responses(*place) for whole, *place in body]


def whole_sets(told: Sequence[ToldSet], parts: Sequence[ToldSet]) -> list[ToldSet]:
    """The sets of ``told`` again, with the tables of their parts, which come in order."""
    left = iter([(table, part.reference) for part in parts for table in part.tables])
    whole: list[ToldSet] = []
    for each in told:
        own = [next(left) for _ in each.tables]
        whole.append(replace(each, tables=[table for table, _ in own], reference=own[0][1]))
    return whole
