"""Prompts with their ids, read from any data; every command and the trainer use this."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import ConfigDict, model_validator

from pad_student.data.conversations import RowError
from pad_student.data.lengths import prompt_fits
from pad_student.data.pairs import NoPair, pair_of
from pad_student.data.readers import PlacedRow, placed_rows
from pad_student.data.rows import prompt_of
from pad_student.errors import PromptsError
from pad_student.preference.settings import RefusalSettings
from pad_student.storage.terminal.status import STATUS
from pad_wire import Prompt
from pad_wire.chat import ChatEncoder, TemplateError, as_messages
from pad_wire.sets import SetId
from pad_wire.text import Text, WireModel
from pad_wire.validation import InvalidBody, validated

logger = logging.getLogger(__name__)

Line = TypeVar("Line", bound=Any)
Made = TypeVar("Made")


class PromptLine(WireModel):
    """A prompt and its id, which is derived from the prompt if there is none. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: SetId
    prompt: Prompt
    chosen: Text | None = None  # a good answer, and a worse one, if pairs are read
    rejected: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _derive_the_id(cls, line: Any) -> Any:
        if isinstance(line, dict) and "prompt" in line and line.get("id") is None:
            pair = [line[name] for name in ("chosen", "rejected") if line.get(name) is not None]
            try:
                return {**line, "id": prompt_id([line["prompt"], *pair] if pair else line["prompt"])}
            except orjson.JSONEncodeError:
                raise ValueError("text that is not Unicode, such as a lone surrogate") from None
        return line


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """Which prompts to take from the data; the fields of the commands' ``PromptData``, and ``pairs``.

    With ``pairs`` each row needs a chosen and a rejected answer too.
    """

    subset: str | None = None
    split: str | None = None
    column: str | None = None
    system: str | None = None
    max_prompt_tokens: int | None = None
    max_prompt_characters: int | None = None
    pairs: bool = False


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
    without: list[str] = []
    for where, row in rows:
        try:
            line = row if isinstance(row, PromptLine) else _line(row, options)
        except NoPair as reason:
            without.append(f"{where}: {reason}")
            continue
        except RowError as error:
            raise PromptsError(f"{name}, {where}: {error}") from None
        if lines.setdefault(line.id, line) != line:
            remedy = "give each an id of its own, or none"
            raise PromptsError(f"{name}, {where}: two different prompts have the id {line.id!r}; {remedy}")
    if without:
        logger.warning("%s: %d rows without a pair are left out; the first, %s", name, len(without), without[0])
    return list(lines.values())


def accepted(
    name: str,
    lines: Sequence[Line],
    encoder: ChatEncoder,
    refusals: RefusalSettings,
    say: Callable[[str], None] = logger.warning,
) -> list[Line]:
    """The rows whose prompt the student's template takes; each is rendered before anything else is done.

    Args:
        name: the data's name in messages.
        lines: prompts, or sets.
        encoder: the student's.
        refusals: whether refused rows are left out, and how many.
        say: receives one line about those, if there are any.

    Raises:
        PromptsError: naming a refused row, with the template's own words.
    """

    def rendered(line: Line) -> Line:
        encoder.rendered(line.prompt)
        return line

    return [line for _, line in tried(name, lines, rendered, refusals, say)]


def tried(
    name: str,
    lines: Sequence[Line],
    use: Callable[[Line], Made],
    refusals: RefusalSettings,
    say: Callable[[str], None] = logger.warning,
) -> list[tuple[int, Made]]:
    """The place of each row whose prompt the student's template takes, with what ``use`` made of the row.

    Args:
        name: the data's name in messages.
        lines: prompts, or sets.
        use: raises TemplateError for a row with a prompt that the template refuses.
        refusals: whether refused rows are left out, and how many.
        say: receives one line about those, if there are any.

    Raises:
        PromptsError: naming a refused row, with the template's own words.
    """
    kept: list[tuple[int, Made]] = []
    first: TemplateError | None = None
    with STATUS.phase("trying the prompts", len(lines), shows=True) as phase:
        for place, line in enumerate(lines):
            phase.update()
            try:
                kept.append((place, use(line)))
            except TemplateError as error:
                first = first or TemplateError(f"prompt {line.id!r}: {error}")
                if refusals.on_refused == "stop":
                    break
    if first is None:
        return kept
    left_out = len(lines) - len(kept)
    if refusals.on_refused == "stop":
        raise PromptsError(f"{name}, {first}; mend it, or leave it out with --on-refused skip")
    counted = f"{left_out} of {len(lines)} prompts are refused"
    if left_out > refusals.most_refused * len(lines):
        raise PromptsError(f"{name}, {first}; {counted}, and most_refused is {refusals.most_refused:g}")
    say(f"{name}: {counted} and left out; the first, {first}")
    return kept


def first_few(ids: Sequence[str]) -> str:
    """The first three ids, and how many more there are."""
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def _prompt_alone(row: Any, column: str | None, system: str | None) -> dict[str, Any]:
    return {"prompt": prompt_of(row, column, system)}


def _line(row: Any, options: PromptOptions) -> PromptLine:
    read = pair_of if options.pairs else _prompt_alone
    fields = read(row, options.column, options.system)
    given = row.get("id")
    own_id = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    try:
        return validated(PromptLine, {"id": own_id, **fields})
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
    limits: list[tuple[str, int | None, Callable[[PromptLine, int], bool]]] = [
        ("characters", options.max_prompt_characters, _keeps_to_characters),
        ("tokens", options.max_prompt_tokens, partial(_keeps_to_tokens, name, encoder)),
    ]
    dropped: list[str] = []
    left = lines
    for unit, limit, keeps_to in limits:
        if limit is None:
            continue
        with STATUS.phase("measuring the prompts", shows=True):
            long = {line.id for line in left if not keeps_to(line, limit)}
        if long:
            few = first_few([line.id for line in left if line.id in long])
            dropped.append(f"{len(long)} over max_prompt_{unit} = {limit} ({few})")
        left = [line for line in left if line.id not in long]
    if dropped:
        say(f"{name}: {len(lines) - len(left)} of {len(lines)} prompts dropped: {'; '.join(dropped)}")
    if not left:
        raise PromptsError(f"{name}: no prompt is short enough; raise the limits")
    return left


def _keeps_to_characters(line: PromptLine, most: int) -> bool:
    return sum(len(message["content"]) for message in as_messages(line.prompt)) <= most


def _keeps_to_tokens(name: str, encoder: Any, line: PromptLine, most: int) -> bool:
    try:
        return prompt_fits(encoder, line.prompt, most)
    except TemplateError as error:
        raise PromptsError(f"{name}, prompt {line.id!r}: {error}") from error


# pyright: standard
