"""Which columns a row may have, in the shapes of TRL and others, and the prompt they make."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from pad_student.data.conversations import (
    OF_SYSTEM,
    Conversation,
    RowError,
    is_not_empty,
    messages_of,
    without_answer,
)

CONVERSATIONS = ("messages", "conversations")
SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt")
MATERIALS = ("input", "context")  # that an instruction is about: Alpaca's column, and Dolly's
CANNOT_BE_CARRIED = (
    *("tools", "functions", "documents", "history", "chat_history", "conversation_history"),
    *("image", "images", "video", "videos", "audio", "audios"),
)
EXPECTED = "`prompt`, `messages`, `instruction`, or `chosen` and `rejected`"


def prompt_of(row: Any, column: str | None = None, system: str | None = None) -> str | Conversation:
    """The prompt of one row.

    Args:
        row: has ``prompt`` (text or messages); ``messages`` or ``conversations`` (the assistant's last turns are left
            out); ``instruction`` and perhaps ``input`` or ``context``; or ``chosen`` and ``rejected`` conversations
            with a shared beginning. The first of these in the row counts; a text that ``messages`` contains as a
            turn is that conversation. A ``system``, or another of ``SYSTEMS``, goes before it.
        column: read this column instead: text, or messages as in ``messages``.
        system: the system prompt of rows that have none.

    Raises:
        RowError: there is no usable prompt, or the prompt needs what cannot be sent (tools, images, an earlier
            conversation).
    """
    if not isinstance(row, Mapping):
        raise RowError(f"expected an object with {EXPECTED}")
    given = {name: value for name, value in row.items() if value is not None}  # Arrow fills in None
    prompt = _of_column(given, column) if column else _by_convention(given)
    if not prompt:
        raise RowError("the prompt is empty")
    own = _own_system(given, column)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    there = [message["content"] for message in messages if message["role"] in OF_SYSTEM]
    if own and there and own not in there:
        raise RowError("its system prompt and the one in its conversation differ")
    front = not there and (own or system)
    return [{"role": "system", "content": front}, *messages] if front else prompt


def _own_system(row: Mapping[str, Any], column: str | None) -> str | None:
    found = [row[name] for name in SYSTEMS if name != column and is_not_empty(row.get(name))]
    if not all(isinstance(each, str) for each in found):
        raise RowError(f"{', '.join(SYSTEMS)}: expected text")
    if len(set(found)) > 1:
        raise RowError(f"it has two system prompts, and they differ: choose one of {', '.join(SYSTEMS)}")
    return found[0] if found else None


def _of_column(row: Mapping[str, Any], column: str) -> str | Conversation:
    if column not in row:
        raise RowError(f"no {column!r} in it, only {_names(row)}")
    return row[column] if isinstance(row[column], str) else without_answer(messages_of(row[column], column), column)


def _by_convention(row: Mapping[str, Any]) -> str | Conversation:
    for name in CANNOT_BE_CARRIED:
        if is_not_empty(row.get(name)):
            raise RowError(f"its prompt has {name}, which cannot be sent; --column takes a column without them")
    if "prompt" in row:
        for name in MATERIALS:
            if is_not_empty(row.get(name)) and not _is_part(row[name], row["prompt"]):
                raise RowError(
                    f"its prompt has {name} besides, which would be left out; --column prompt leaves it out"
                )
        return _whole_conversation(row, _given_prompt(row["prompt"]))
    for name in CONVERSATIONS:
        if name in row:
            return without_answer(messages_of(row[name], name), name)
    if "instruction" in row:
        parts = [row["instruction"], *(row.get(name, "") for name in MATERIALS)]
        if not all(isinstance(part, str) for part in parts):
            raise RowError(f"instruction, {' and '.join(MATERIALS)}: expected text")
        return "\n\n".join(part for part in parts if part)
    if "chosen" in row and "rejected" in row:
        return _shared_beginning(row["chosen"], row["rejected"])
    raise RowError(f"expected {EXPECTED}, found {_names(row)}; --column names another one")


def _is_part(text: Any, prompt: Any) -> bool:
    """Whether a prompt of text holds the text already."""
    return isinstance(text, str) and isinstance(prompt, str) and text in prompt


def _whole_conversation(row: Mapping[str, Any], prompt: str | Conversation) -> str | Conversation:
    """The conversation that a text prompt is a turn of, as in No Robots: it may have a system message and more turns.

    Raises:
        RowError: there is another conversation next to the prompt.
    """
    name = next((name for name in CONVERSATIONS if is_not_empty(row.get(name))), None)
    if name is None or not isinstance(prompt, str):
        return prompt
    try:
        conversation = without_answer(messages_of(row[name], name), name)
    except RowError as error:
        raise RowError(f"{error}; --column prompt takes the prompt alone") from None
    if conversation == [{"role": "user", "content": prompt}]:
        return prompt
    if prompt not in [message["content"] for message in conversation]:
        raise RowError(f"its prompt is no turn of its {name}: choose one of them with --column")
    return conversation


def _given_prompt(value: Any) -> str | Conversation:
    if isinstance(value, str):
        return value
    messages = messages_of(value, "prompt")
    if messages and messages[-1]["role"] == "assistant":
        raise RowError("prompt: the conversation ends with the assistant, and an answer begun there is not continued")
    return without_answer(messages, "prompt")


def _shared_beginning(chosen: Any, rejected: Any) -> Conversation:
    if isinstance(chosen, str):
        raise RowError(
            "the shared beginning of two texts, chosen and rejected, is no prompt: --column names a prompt"
        )
    pairs = zip(messages_of(chosen, "chosen"), messages_of(rejected, "rejected"), strict=False)
    return without_answer([one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)], "chosen")


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "nothing"


# pyright: standard
