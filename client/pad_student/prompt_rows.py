"""From a row, as datasets for TRL and others hold it, to its prompt: text, or a conversation up to the answer."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

CONVERSATIONS = ("messages", "conversations")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
CANNOT_BE_CARRIED = ("tools", "image", "images")
EXPECTED = "`prompt`, `messages`, `instruction`, or `chosen` and `rejected`"

Conversation = list[dict[str, str]]


class RowError(ValueError):
    """A row without a prompt that can be used; says what was expected, and never repeats the row's text."""


def prompt_of(row: Any, column: str | None = None, system: str | None = None) -> str | Conversation:
    """The prompt of one row.

    Args:
        row: with ``prompt`` (text or messages); ``messages`` or ``conversations`` (whose last assistant's turns are
            left out); ``instruction`` and perhaps ``input``; or ``chosen`` and ``rejected`` conversations, which
            share their beginning. The first of these that it has is taken.
        column: takes this one instead: text, or messages as in ``messages``.
        system: is put in front where a conversation has no system message.

    Raises:
        RowError: where there is no prompt, or it is not of a form that can be used.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"expected an object with {EXPECTED}")
    given = {name: value for name, value in row.items() if value is not None}  # Arrow fills in None
    prompt = _of_column(given, column) if column else _by_convention(given)
    if not prompt:
        raise RowError("the prompt is empty")
    if not system:
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if any(message["role"] in ("system", "developer") for message in messages):
        return messages
    return [{"role": "system", "content": system}, *messages]


def _of_column(row: Mapping[str, Any], column: str) -> str | Conversation:
    if column not in row:
        raise RowError(f"no {column!r} in it, only {_names(row)}")
    return row[column] if isinstance(row[column], str) else _up_to_the_answer(_messages(row[column], column), column)


def _by_convention(row: Mapping[str, Any]) -> str | Conversation:
    for name in CANNOT_BE_CARRIED:
        if name in row and (not isinstance(row[name], Sequence) or len(row[name])):
            raise RowError(f"its prompt has {name}, which cannot be sent; --column takes a column without them")
    if "prompt" in row:
        return _given_prompt(row["prompt"])
    for name in CONVERSATIONS:
        if name in row:
            return _up_to_the_answer(_messages(row[name], name), name)
    if "instruction" in row:
        parts = [row["instruction"], row.get("input", "")]
        if not all(isinstance(part, str) for part in parts):
            raise RowError("instruction and input: expected text")
        return "\n\n".join(part for part in parts if part)
    if "chosen" in row and "rejected" in row:
        return _shared_beginning(row["chosen"], row["rejected"])
    raise RowError(f"expected {EXPECTED}, found {_names(row)}; --column names another one")


def _given_prompt(value: Any) -> str | Conversation:
    if isinstance(value, str):
        return value
    messages = _messages(value, "prompt")
    if messages and messages[-1]["role"] == "assistant":
        raise RowError("prompt: the conversation ends with the assistant, and an answer begun there is not continued")
    return _up_to_the_answer(messages, "prompt")


def _shared_beginning(chosen: Any, rejected: Any) -> Conversation:
    if isinstance(chosen, str):
        raise RowError("where chosen and rejected begin to differ is no prompt in texts: --column names a prompt")
    pairs = zip(_messages(chosen, "chosen"), _messages(rejected, "rejected"), strict=False)
    return _up_to_the_answer([one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)], "chosen")


def _up_to_the_answer(messages: Conversation, column: str) -> Conversation:
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    if all(message["role"] == "system" for message in messages[:end]):
        raise RowError(f"{column}: no turn of the user to answer")
    if not all(message["content"] for message in messages[:end]):
        raise RowError(f"{column}: a message is empty")
    return messages[:end]


def _messages(value: Any, column: str) -> Conversation:
    """Role and content of each message; empty system messages, which some datasets have, are left out."""
    if not isinstance(value, list):
        raise RowError(f"{column}: expected text or a list of messages")
    messages = [_message(each, f"{column}[{place}]") for place, each in enumerate(value)]
    return [each for each in messages if each["content"] or each["role"] != "system"]


def _message(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise RowError(f"{where}: expected a message with role and content")
    if value.get("tool_calls"):
        raise RowError(f"{where}: calls tools, which cannot be sent")
    role, content = value.get("role"), value.get("content")
    if role is None and isinstance(value.get("from"), str):  # ShareGPT's
        role, content = SHAREGPT_ROLES.get(value["from"], value["from"]), value.get("value")
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("text") for part in content):
        content = "".join(str(part["text"]) for part in content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise RowError(f"{where}: expected a role and a content, both text")
    return {"role": role, "content": content}


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "nothing"
