"""Checks of replies in safetensors: the teacher's distribution at every scored token, and its reference's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from pad_student.storage.token_tables import OF_REFERENCE, TokenTable, encoded, why_wrong
from pad_student.teacher.checks.replies import Untrustworthy
from pad_wire import SampledSet, ScoredResponse, ScoredSet, TeacherId, Usage


@dataclass(frozen=True, slots=True)
class TokenReply:
    """A reply of ``/v1/token_logprobs``: its tensors, and what its metadata say."""

    teacher: TeacherId
    reference: TeacherId | None
    tokenizer: str
    ids: list[str]
    responses: list[int]
    truncated: frozenset[int]
    usage: Usage
    tensors: dict[str, NDArray[Any]]


def read_token_reply(content: bytes) -> TokenReply:
    """Read a whole reply.

    Raises:
        Untrustworthy: if it was cut, or is none.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        reference = metadata.get("reference_fingerprint")
        return TokenReply(
            TeacherId(model=metadata["model"], fingerprint=metadata["fingerprint"]),
            reference and TeacherId(model=metadata["reference_model"], fingerprint=reference),
            metadata["tokenizer"],
            [str(each) for each in json.loads(metadata["ids"])],
            [int(each) for each in json.loads(metadata["responses"])],
            frozenset(json.loads(metadata["truncated"])),
            Usage.model_validate_json(metadata["usage"]),
            tensors,
        )
    except (SafetensorError, ValidationError, ValueError, KeyError, TypeError) as error:
        raise Untrustworthy(f"it is no whole safetensors reply ({type(error).__name__})") from None


def token_scored_sets(sets: Sequence[SampledSet], reply: TokenReply, top: int, *, reference: bool) -> list[ScoredSet]:
    """Join each set with its distributions, in the order asked.

    Raises:
        Untrustworthy: for a wrong count or id, a tensor that is missing or of another shape, a number that is no
            log-probability, or probabilities that do not add up to 1.
    """
    if reply.ids != [each.id for each in sets] or reply.responses != [len(each.responses) for each in sets]:
        raise Untrustworthy("other sets came back than were sent")
    _check_tensors(reply.tensors, sum(reply.responses), top, reference=reference)
    offsets = reply.tensors["offsets"].astype(np.int64)
    places = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    joined: list[ScoredSet] = []
    for each in sets:
        first = sum(len(other.responses) for other in joined)
        tables = [_table(reply.tensors, *place) for place in places[first : first + len(each.responses)]]
        responses = [
            _scored(response, table, first + j in reply.truncated)
            for j, (response, table) in enumerate(zip(each.responses, tables, strict=True))
        ]
        joined.append(
            ScoredSet(
                id=each.id,
                prompt=each.prompt,
                responses=responses,
                answer=each.answer,
                teacher=reply.teacher,
                reference=reply.reference if reference else None,
                token_tables=encoded(tables),
            )
        )
    return joined


def _check_tensors(tensors: dict[str, NDArray[Any]], responses: int, top: int, *, reference: bool) -> None:
    offsets = tensors.get("offsets", np.zeros(0, np.uint32)).astype(np.int64)
    if offsets.shape != (responses + 1,) or offsets[0] != 0 or not (np.diff(offsets) > 0).all():
        raise Untrustworthy("its offsets do not divide the tokens among the responses")
    N = int(offsets[-1])
    shapes = {"token_ids": (N,), "token_logprobs": (N,), "top_ids": (N, top), "top_logprobs": (N, top), "rest": (N,)}
    if reference:
        shapes |= dict(zip(OF_REFERENCE, [(N,), (N, top), (N,)], strict=True))
    for name, shape in shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            found = list(tensors[name].shape) if name in tensors else "missing"
            raise Untrustworthy(f"its tensor {name} is {found} instead of {list(shape)}")
    if problem := why_wrong(tensors, reference=reference):
        raise Untrustworthy(problem)


def _table(tensors: dict[str, NDArray[Any]], start: int, stop: int) -> TokenTable:
    return TokenTable({name: values[start:stop] for name, values in tensors.items() if name != "offsets"})


def _scored(response: Any, table: TokenTable, truncated: bool) -> ScoredResponse:
    own = table.arrays["token_logprobs"]
    total = min(0.0, float(own.sum(dtype=np.float64)))
    return ScoredResponse(
        text=response.text,
        finished=response.finished,
        ids=response.ids,
        log_likelihood=total,
        tokens=len(own),
        mean_log_likelihood=total / len(own),
        truncated=truncated or None,
    )
