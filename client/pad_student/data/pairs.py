"""The chosen and the rejected answer of a row: TRL's forms, and the columns of HelpSteer2."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from pad_student.data.conversations import RowError, messages_of
from pad_student.data.rows import prompt_of

NAMES = ("chosen", "rejected")
RESPONSES = ("response_1", "response_2")  # HelpSteer2's; its preference is negative if the first is better
PREFERENCE = "preference_strength"


class NoPair(RowError):
    """A row that is in order, but prefers none of its answers, or has answers that a student cannot learn from."""


def pair_of(row: Any, column: str | None = None, system: str | None = None) -> dict[str, Any]:
    """``prompt``, and ``chosen`` and ``rejected`` as texts.

    An answer is a text, or messages of which the assistant's last one is the answer: after an explicit prompt that
    message alone or the whole conversation, otherwise the whole. The prompt of two texts without one is their shared
    beginning, up to a whole word, as in TRL.

    Raises:
        RowError: if the prompt or one of the answers is missing, or in no known form.
        NoPair: if the answers are the same, empty, or equally good.
    """
    if not isinstance(row, Mapping):
        raise RowError("expected an object with prompt, chosen and rejected")
    given = {name: value for name, value in row.items() if value is not None}
    texts = all(isinstance(given.get(name), str) for name in NAMES)
    if texts and column is None and not given.keys() & {"prompt", "messages", "conversations", "instruction"}:
        pair = _implicit(given["chosen"], given["rejected"], system)
    elif given.keys() & set(NAMES):
        pair = {"prompt": prompt_of(row, column, system), **{name: _answer(given, name) for name in NAMES}}
    elif all(isinstance(given.get(name), str) for name in RESPONSES):
        pair = {"prompt": prompt_of(row, column, system), **_by_strength(given)}
    else:
        raise RowError(f"expected chosen and rejected, or {' and '.join(RESPONSES)} with {PREFERENCE}")
    if pair["chosen"] == pair["rejected"]:
        raise NoPair("chosen and rejected are the same answer")
    if not pair["chosen"].strip() or not pair["rejected"].strip():
        raise NoPair("an answer is empty")
    return pair


def _implicit(chosen: str, rejected: str, system: str | None) -> dict[str, Any]:
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    shared = chosen[:length]
    cut = max(shared.rfind(space) for space in " \n") + 1  # two words may begin with the same letters
    if not shared[:cut].strip():
        raise RowError("two texts, chosen and rejected, without a shared beginning: --column names a prompt")
    prompt = prompt_of({"prompt": shared[:cut].rstrip()}, None, system)
    return {"prompt": prompt, "chosen": chosen[cut:], "rejected": rejected[cut:]}


def _answer(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, str):
        return value
    messages = messages_of(value, name)
    if not messages or messages[-1]["role"] != "assistant":
        raise RowError(f"{name}: expected a text, or messages that end with the assistant's")
    if "prompt" not in row and len(messages) > 1 and messages[-2]["role"] == "assistant":
        raise NoPair(f"{name}: several answers in a row")
    return messages[-1]["content"]


def _by_strength(row: Mapping[str, Any]) -> dict[str, str]:
    strength = row.get(PREFERENCE)
    if not isinstance(strength, int | float) or isinstance(strength, bool):
        raise RowError(f"{PREFERENCE}: expected a number, negative if {RESPONSES[0]} is better")
    if not strength:
        raise NoPair(f"{PREFERENCE} is 0")
    first, second = (row[name] for name in RESPONSES)
    return {"chosen": first, "rejected": second} if strength < 0 else {"chosen": second, "rejected": first}


# pyright: standard
