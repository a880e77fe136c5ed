"""Checks of replies in safetensors: the teacher's distribution at every scored token, and its reference's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from pad_student.storage.token_tables import OF_REFERENCE, OF_TEACHER, TokenTable, encoded, why_wrong
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


@dataclass(frozen=True, slots=True)
class ToldSet:
    """A set, or some of its responses, with the distributions that a reply has of it.

    Attributes:
        sampled: as asked.
        tables: of each response.
        truncated: whether each response was cut.
        reply: whose numbers these are.
        reference: the reference whose numbers the tables have too.
    """

    sampled: SampledSet
    tables: list[TokenTable]
    truncated: list[bool]
    reply: TokenReply
    reference: TeacherId | None

    def of_responses(self, start: int, stop: int) -> "ToldSet":
        """Some of its responses alone."""
        sampled = self.sampled.model_copy(update={"responses": self.sampled.responses[start:stop]})
        return replace(self, sampled=sampled, tables=self.tables[start:stop], truncated=self.truncated[start:stop])

    def scored(self) -> ScoredSet:
        """As a scored set."""
        return ScoredSet(
            id=self.sampled.id,
            prompt=self.sampled.prompt,
            responses=[
                _scored(*each) for each in zip(self.sampled.responses, self.tables, self.truncated, strict=True)
            ],
            answer=self.sampled.answer,
            teacher=self.reply.teacher,
            reference=self.reference,
            token_tables=encoded(self.tables),
        )


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
        Untrustworthy: as ``told_sets``.
    """
    return [each.scored() for each in told_sets(sets, reply, top, reference=reference)]


def told_sets(sets: Sequence[SampledSet], reply: TokenReply, top: int, *, reference: bool) -> list[ToldSet]:
    """Join each set with its distributions, in the order asked.

    Raises:
        Untrustworthy: for a wrong count or id, a tensor that is missing or of another shape, a number that is no
            log-probability, or probabilities that do not add up to 1.
    """
    if reply.ids != [each.id for each in sets] or reply.responses != [len(each.responses) for each in sets]:
        raise Untrustworthy("other sets came back than were sent")
    _check_tensors(reply.tensors, sum(reply.responses), top, reference=reference)
    offsets = reply.tensors["offsets"].astype(np.int64)
    places = iter(enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)))
    told: list[ToldSet] = []
    for each in sets:
        own = list(islice(places, len(each.responses)))
        told.append(
            ToldSet(
                each,
                [_table(reply.tensors, *place) for _, place in own],
                [number in reply.truncated for number, _ in own],
                reply,
                reply.reference if reference else None,
            )
        )
    return told


def with_reference(told: Sequence[ToldSet], sets: Sequence[SampledSet], reply: TokenReply) -> list[ToldSet]:
    """Join what a teacher told of ``sets`` with the reply of its reference, which was asked at the same ids.

    Raises:
        Untrustworthy: as ``told_sets``; and if the reference has another tokenizer or template, scores other tokens,
            names other ids, or has no probability for a token that the teacher has some for.
    """
    teacher = told[0].reply
    if reply.tokenizer != teacher.tokenizer:
        raise Untrustworthy(f"its tokenizer ({reply.tokenizer[:8]}) is not the teacher's ({teacher.tokenizer[:8]})")
    ours, theirs = reply.usage.prompt_tokens, teacher.usage.prompt_tokens
    if reply.responses == teacher.responses and ours != theirs:  # else it was asked about fewer of them at a time
        template = "serve both with one chat template"
        raise Untrustworthy(f"it renders the prompts as {ours} tokens, and the teacher as {theirs}: {template}")
    top = told[0].tables[0].arrays["top_ids"].shape[1]
    both: list[ToldSet] = []
    for one, other in zip(told, told_sets(sets, reply, top, reference=False), strict=True):
        name = f"set {one.sampled.id!r}, response"
        tables = [_joined(f"{name} {j}", *each) for j, each in enumerate(zip(one.tables, other.tables, strict=True))]
        both.append(replace(one, tables=tables, reference=reply.teacher))
    return both


def _joined(name: str, teacher: TokenTable, reference: TokenTable) -> TokenTable:
    for tensor in ("token_ids", "top_ids"):
        if not np.array_equal(teacher.arrays[tensor], reference.arrays[tensor]):
            raise Untrustworthy(f"{name}: its {tensor} are not the teacher's")
    pairs = zip(OF_REFERENCE, OF_TEACHER, strict=True)
    arrays = teacher.arrays | {ours: reference.arrays[theirs] for ours, theirs in pairs}
    if problem := why_wrong(arrays, reference=True):
        raise Untrustworthy(f"{name}: {problem}")
    return TokenTable(arrays)


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
