"""The teacher's distributions of a set's responses, as one text in the set's line: base64 of a safetensors file."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pad_student.errors import DatasetError

MASS_TOLERANCE = {"float32": 1e-3, "float16": 2e-2}  # of all named tokens and the rest, around 1
OF_TEACHER = ("token_logprobs", "top_logprobs", "rest")
OF_REFERENCE = ("reference_token_logprobs", "reference_logprobs", "reference_rest")


@dataclass(frozen=True, slots=True)
class TokenTable:
    """One response's arrays by name, [T] or [T, K], as ``pad_wire.token_logprobs`` describes them."""

    arrays: dict[str, NDArray[Any]]


def encoded(tables: Sequence[TokenTable]) -> str:
    """All tables of a set as one text; they have the same arrays."""
    offsets = np.cumsum([0, *(len(table.arrays["token_ids"]) for table in tables)]).astype(np.uint32)
    joined = {name: np.concatenate([table.arrays[name] for table in tables]) for name in tables[0].arrays}
    return base64.b64encode(save({"offsets": offsets, **joined})).decode()


def decoded(text: str) -> list[TokenTable]:
    """The tables of each response.

    Raises:
        DatasetError: if the text is not of that form.
    """
    try:
        joined = load(base64.b64decode(text, validate=True))
        offsets = joined.pop("offsets").astype(np.int64)
    except (binascii.Error, SafetensorError, KeyError, ValueError):
        raise DatasetError("token_tables: no whole safetensors file in base64") from None
    places = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return [TokenTable({name: values[slice(*place)] for name, values in joined.items()}) for place in places]


def why_wrong(arrays: Mapping[str, NDArray[Any]], *, reference: bool) -> str | None:
    """Why distributions cannot be learnt from, in words; None if they can.

    A named token, or the rest, may have no probability at all: -inf counts for nothing in a divergence. A scored
    token may not. With a reference both models have the token, or neither: else its advantage would be infinite.
    """
    models = (OF_TEACHER, OF_REFERENCE) if reference else (OF_TEACHER,)
    if missing := [name for names in models for name in names if name not in arrays]:
        return f"its tensor {missing[0]} is missing"
    for own, named, rest in models:
        if wrong := [each for each in (own, named, rest) if not (arrays[each] <= 1e-3).all()]:  # NaN is not
            return f"its tensor {wrong[0]} has a value that is no log-probability"
        if not np.isfinite(arrays[own]).all():
            return f"its tensor {own} has -inf, and a scored token has some probability"
        mass = np.exp(arrays[named].astype(np.float64)).sum(1) + np.exp(arrays[rest].astype(np.float64))
        if not (abs(mass - 1) < MASS_TOLERANCE.get(str(arrays[named].dtype), 1e-3)).all():
            return f"probabilities in its tensors {named} and {rest} do not add up to 1"
    for one, other in zip(OF_TEACHER[1:], OF_REFERENCE[1:], strict=True) if reference else ():
        if (np.isinf(arrays[one]) != np.isinf(arrays[other])).any():
            return f"its tensors {one} and {other} have -inf for different tokens, so an advantage is infinite"
    return None
