"""Prompts files: one JSON object a line with a prompt and, or else derived from it, an id."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
from pydantic import ConfigDict, model_validator

from pad_student import jsonl
from pad_wire import Prompt
from pad_wire.sets import SetId
from pad_wire.text import WireModel


class PromptLine(WireModel):
    """One line of a prompts file; fields beside these are left to whoever put them there."""

    model_config = ConfigDict(extra="ignore")

    id: SetId
    prompt: Prompt

    @model_validator(mode="before")
    @classmethod
    def _derive_the_id(cls, line: Any) -> Any:
        if isinstance(line, dict) and "prompt" not in line:
            raise ValueError('a line of prompts needs a prompt, as in {"id": "0", "prompt": "…"}; the id is optional')
        if isinstance(line, dict) and line.get("id") is None:
            return {**line, "id": prompt_id(line["prompt"])}
        return line


def prompt_id(prompt: Any) -> str:
    """A stable id of a prompt in its JSON form (text, or a list of messages): 16 hex digits."""
    return hashlib.sha256(orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def read_prompts(path: Path) -> list[PromptLine]:
    """Read a prompts file; a prompt that occurs twice under one id is kept once.

    Raises:
        JsonLinesError: for a bad line, for two prompts under one id, and for a file without prompts.

    """
    lines: dict[str, PromptLine] = {}
    for line in jsonl.read(path, PromptLine):
        if lines.setdefault(line.id, line) != line:
            raise jsonl.JsonLinesError(f"{path}: two different prompts have the id {line.id!r}")
    if not lines:
        raise jsonl.JsonLinesError(f"{path}: no prompts")
    return list(lines.values())
