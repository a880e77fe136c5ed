"""Prompts with their ids, read from any data; every command and the trainer use this."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import ConfigDict, model_validator

from pad_student.data.conversations import RowError
from pad_student.data.readers import PlacedRow, placed_rows
from pad_student.data.rows import prompt_of
from pad_student.errors import PromptsError
from pad_wire import Prompt
from pad_wire.chat import ChatEncoder, TemplateError, as_messages
from pad_wire.sets import SetId
from pad_wire.text import WireModel
from pad_wire.validation import InvalidBody, validated

logger = logging.getLogger(__name__)


class PromptLine(WireModel):
    """A prompt and its id, which is derived from the prompt if there is none. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: SetId
    prompt: Prompt

    @model_validator(mode="before")
    @classmethod
    def _derive_the_id(cls, line: Any) -> Any:
        if isinstance(line, dict) and "prompt" in line and line.get("id") is None:
            try:
                return {**line, "id": prompt_id(line["prompt"])}
            except orjson.JSONEncodeError:
                raise ValueError("text that is not Unicode, such as a lone surrogate") from None
        return line


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """Which prompts to take from the data; the fields of the commands' ``PromptData``."""

    subset: str | None = None
    split: str | None = None
    column: str | None = None
    system: str | None = None
    max_prompt_tokens: int | None = None
    max_prompt_characters: int | None = None


def prompt_id(prompt: Any) -> str:
    """A stable id of a prompt in its JSON form (text or a list of messages): 16 hex digits."""
    return hashlib.sha256(orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def read_prompts(
    source: str | Path,
    options: PromptOptions | None = None,
    encoder: ChatEncoder | None = None,
    say: Callable[[str], None] = logger.warning,
) -> list[PromptLine]:
    """Read prompts from a file, a directory or the Hub; a repeated prompt with the same id is kept once.

    Args:
        source: as for ``readers.placed_rows``; ``rows.prompt_of`` lists the shapes of a row.
        options: which rows, which prompt of a row, and its greatest length.
        encoder: the student's, for ``max_prompt_tokens``: a prompt's tokens include those of its chat template.
        say: receives one line about the prompts that were dropped, if any were.

    Raises:
        PromptsError: for data that cannot be read, a row without a prompt, two prompts with one id, and data
            without prompts, also after the long ones were dropped.
    """
    options = options or PromptOptions()
    lines = prompt_lines(str(source), placed_rows(Path(source), options.subset, options.split), options)
    if not lines:
        raise PromptsError(f"{source}: no prompts")
    return _short_enough(str(source), lines, options, encoder, say)


def prompt_lines(name: str, rows: Iterable[PlacedRow], options: PromptOptions | None = None) -> list[PromptLine]:
    """The prompts of ``rows``, of any length; ``name`` is the data's name in messages.

    Raises:
        PromptsError: as in ``read_prompts``, except that an empty source is not an error.
    """
    options = options or PromptOptions()
    lines: dict[str, PromptLine] = {}
    for where, row in rows:
        try:
            line = row if isinstance(row, PromptLine) else _line(row, options)
        except RowError as error:
            raise PromptsError(f"{name}, {where}: {error}") from None
        if lines.setdefault(line.id, line) != line:
            remedy = "give each an id of its own, or none"
            raise PromptsError(f"{name}, {where}: two different prompts have the id {line.id!r}; {remedy}")
    return list(lines.values())


def try_templates(name: str, lines: Iterable[Any], encoder: ChatEncoder) -> None:
    """Render one prompt of each sequence of roles, before anything is sampled: most templates refuse by role.

    Raises:
        PromptsError: naming the data and the prompt, with the template's own words.
    """
    tried: set[tuple[str, ...]] = set()
    for line in lines:
        roles = tuple(message["role"] for message in as_messages(line.prompt))
        if roles not in tried:
            prompt_tokens(name, line, encoder)
            tried.add(roles)


def prompt_tokens(name: str, line: Any, encoder: ChatEncoder) -> int:
    """Tokens of a row's prompt, with its chat template.

    Raises:
        PromptsError: naming the row that the template refuses.
    """
    try:
        return len(encoder.prompt_ids(line.prompt))
    except TemplateError as error:
        raise PromptsError(f"{name}, prompt {line.id!r}: {error}") from error


def first_few(ids: Sequence[str]) -> str:
    """The first three ids, and how many more there are."""
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def _line(row: Any, options: PromptOptions) -> PromptLine:
    prompt = prompt_of(row, options.column, options.system)
    given = row.get("id")
    own_id = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    try:
        return validated(PromptLine, {"id": own_id, "prompt": prompt})
    except InvalidBody as error:
        raise RowError(f"{error.detail.where or 'prompt'}: {error.detail.message}") from None


def _short_enough(
    name: str,
    lines: list[PromptLine],
    options: PromptOptions,
    encoder: ChatEncoder | None,
    say: Callable[[str], None],
) -> list[PromptLine]:
    if options.max_prompt_tokens and encoder is None:
        raise PromptsError("max_prompt_tokens needs the student's tokenizer, to count with")
    count: Any = encoder
    limits: list[tuple[str, int | None, Callable[[PromptLine], int]]] = [
        ("characters", options.max_prompt_characters, _characters),
        ("tokens", options.max_prompt_tokens, lambda line: prompt_tokens(name, line, count)),
    ]
    dropped: list[str] = []
    left = lines
    for unit, limit, measure in limits:
        if limit is None:
            continue
        long = {line.id for line in left if measure(line) > limit}
        if long:
            few = first_few([line.id for line in left if line.id in long])
            dropped.append(f"{len(long)} over max_prompt_{unit} = {limit} ({few})")
        left = [line for line in left if line.id not in long]
    if dropped:
        say(f"{name}: {len(lines) - len(left)} of {len(lines)} prompts dropped: {'; '.join(dropped)}")
    if not left:
        raise PromptsError(f"{name}: no prompt is short enough; raise the limits")
    return left


def _characters(line: PromptLine) -> int:
    return sum(len(message["content"]) for message in as_messages(line.prompt))


# pyright: standard
