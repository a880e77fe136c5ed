"""Conversations in the forms of OpenAI and ShareGPT: role and text of each turn before the answer."""

from collections.abc import Mapping, Sized
from typing import Any

from pad_wire.sets import ROLES

OF_SYSTEM = ("system", "developer")
SHAREGPT_ROLES = {"human": "user"} | dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model"), "assistant")
EMPTY_JSON = ("", "[]", "{}", "null")

Conversation = list[dict[str, str]]


class RowError(ValueError):
    """A row without a usable prompt; the message says what was expected and never repeats the row's text."""


def is_not_empty(value: Any) -> bool:
    """Whether a field is not empty; tables also write an empty list as the text ``"[]"``."""
    if isinstance(value, str):
        return value.strip() not in EMPTY_JSON
    return value is not None and (not isinstance(value, Sized) or len(value) > 0)


def messages_of(value: Any, column: str) -> Conversation:
    """Role and content of each message, without empty system messages, which some datasets have.

    Raises:
        RowError: for a value that is no list of messages, and for a message that holds more than text.
    """
    if not isinstance(value, list):
        raise RowError(f"{column}: expected text or a list of messages")
    messages = [_message(each, f"{column}[{place}]") for place, each in enumerate(value)]
    return [each for each in messages if each["content"] or each["role"] not in OF_SYSTEM]


def without_answer(messages: Conversation, column: str) -> Conversation:
    """The conversation without the assistant's last turns.

    Raises:
        RowError: no turn is left for an assistant to answer, or a message is empty.
    """
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    if not end or messages[end - 1]["role"] not in ("user", "tool"):
        raise RowError(f"{column}: no turn of the user, or of a tool, at its end to answer")
    if not all(message["content"] for message in messages[:end]):
        raise RowError(f"{column}: a message is empty")
    return messages[:end]


def _message(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise RowError(f"{where}: expected a message with role and content")
    if any(is_not_empty(value.get(name)) for name in ("tool_calls", "function_call")):
        raise RowError(f"{where}: calls tools, which cannot be sent")
    role, content = value.get("role"), value.get("content")
    if role is None and isinstance(value.get("from"), str):  # ShareGPT's
        role, content = SHAREGPT_ROLES.get(value["from"], value["from"]), value.get("value")
    if isinstance(content, list):
        content = "".join(_text_of_part(part, where) for part in content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise RowError(f"{where}: expected a role and a content, both text")
    if role not in ROLES:
        raise RowError(f"{where}: its role is none of {', '.join(ROLES)}")
    return {"role": role, "content": content}


def _text_of_part(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        others = any(is_not_empty(each) for name, each in part.items() if name not in ("type", "text"))
        if part.get("type") == "text" or (part.get("type") is None and not others):
            return part["text"]
    raise RowError(f"{where}: a part of its content is no text, and cannot be sent")


# pyright: standard
