"""Writes the multiple-choice question about one prompt in token ids, with its options whole or cut to fit."""

from collections.abc import Sequence
from dataclasses import dataclass

from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.likelihood import template_at
from pad_teacher.scoring.long_texts import beginning
from pad_teacher.scoring.teacher import Teacher

BORDER_TOKENS = 4  # of a question's wording that may join with those of a text, at its two ends


@dataclass(frozen=True, slots=True)
class QuestionWriter:
    """Renders and tokenises the question about one prompt, for any options."""

    teacher: Teacher
    request: str
    where: str

    def ids(self, options: Sequence[str]) -> list[int]:
        """Token ids of the question.

        Raises:
            Refusal: ``too_long`` if it does not fit the context, ``template_refused``.
        """
        ids = self._ids(options)
        limit = self.teacher.engine.max_context_tokens
        if len(ids) > limit:
            message = f"the question about this set has {len(ids)} tokens; the teacher's context holds {limit}"
            raise Refusal("too_long", message, where=self.where)
        return ids

    def cut_to_fit(self, texts: Sequence[str], shown: int) -> Steps[list[str]]:
        """The texts, each cut to the largest number of tokens with which every question fits the context."""
        limit = self.teacher.engine.max_context_tokens
        ids: list[list[int]] = []
        for text in texts:
            begun = yield from beginning(self.teacher, text, limit)
            ids.append(self._response_ids(begun))
            yield
        decode = self.teacher.encoder.decode

        def cut(tokens: int) -> list[str]:
            # A cut within a character leaves its first bytes, which decode to a replacement character.
            return [
                text if len(of_text) <= tokens else decode(of_text[:tokens]).rstrip("\N{REPLACEMENT CHARACTER}")
                for text, of_text in zip(texts, ids, strict=True)
            ]

        def fits(tokens: int) -> bool:
            options = sorted(cut(tokens), key=lambda option: -len(self._response_ids(option)))[:shown]
            # Tokens may merge or split at the border of an option: the margin is larger than was ever seen.
            return len(self._ids(options)) + shown <= limit

        low, high = 0, _most_tokens_each(list(map(len, ids)), shown, limit + BORDER_TOKENS * shown)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
            yield
        return cut(low)

    def _response_ids(self, text: str) -> list[int]:
        return self.teacher.encoder.response_ids([text], [False])[0]

    def _ids(self, options: Sequence[str]) -> list[int]:
        with template_at(self.where):  # the prompt cache is not used: a question is rarely asked twice
            return self.teacher.question_ids(self.request, options)


def _most_tokens_each(lengths: Sequence[int], shown: int, limit: int) -> int:
    """The most tokens of each text with which the ``shown`` longest have at most ``limit`` together."""
    longest = sorted(lengths)[-shown:]
    for number, length in enumerate(longest):
        left = limit - sum(longest[:number])
        if length * (shown - number) > left:
            return left // (shown - number)
    return longest[-1]
