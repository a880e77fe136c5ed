"""Texts that are far too long are found in slices: to tokenise one whole takes 400 times its size in memory."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.teacher import Teacher
from pad_wire import Prompt, SentResponse
from pad_wire.chat import as_text

SLICE_CHARS = 4096  # about a millisecond
BATCH_CHARS = 16_384  # texts that are tokenised in one call
MARGIN = 2  # slices have other tokens at their borders than the whole text, but never twice as many

Item = TypeVar("Item")


def beginning(teacher: Teacher, text: str, tokens: int) -> Steps[str]:
    """The text; or, if it certainly has more than ``tokens`` tokens, a beginning that has more than that too."""
    if len(text) <= tokens:  # of few tokens a character, at the most
        return text
    tokenizer: Any = teacher.encoder.tokenizer
    counted = 0
    for start in range(0, len(text), SLICE_CHARS):
        backend = tokenizer.backend_tokenizer
        backend.encode_special_tokens = False  # a special token is one token, or more as text: never count too many
        counted += len(backend.encode_batch_fast([text[start : start + SLICE_CHARS]], add_special_tokens=False)[0])
        if counted > MARGIN * tokens:
            return text[: start + SLICE_CHARS]
        yield
    return text


def is_too_long(teacher: Teacher, prompt: Prompt, tokens: int, options: Sequence[str] = ()) -> Steps[bool]:
    """Whether a prompt, and the options of a question about it, certainly have more than ``tokens`` tokens."""
    text = "\n\n".join([as_text(prompt), *options])
    begun = yield from beginning(teacher, text, tokens)
    return len(begun) < len(text)


def batches(responses: Sequence[SentResponse]) -> Iterator[list[SentResponse]]:
    """The responses in few lists of about ``BATCH_CHARS`` characters."""
    part: list[SentResponse] = []
    size = 0
    for response in responses:
        if part and size + len(response.text) > BATCH_CHARS:
            yield part
            part, size = [], 0
        part.append(response)
        size += len(response.text)
    yield part
