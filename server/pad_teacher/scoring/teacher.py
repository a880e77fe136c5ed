"""The teacher: an engine, its tokenizer and template, and the fingerprint of everything that decides a score."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pad_teacher.engines.base import Engine
from pad_teacher.errors import CannotServe
from pad_teacher.scoring.prompt_cache import PromptCache
from pad_wire import TeacherId
from pad_wire.chat import ChatEncoder
from pad_wire.question import QuestionForm
from pad_wire.scoring import LETTERS


@dataclass(frozen=True, slots=True)
class Teacher:
    """An engine with its tokenizer: turns texts into token ids and log-probabilities."""

    id: TeacherId
    encoder: ChatEncoder
    engine: Engine
    letter_ids: list[int]  # of A, B, … as tokens after the begun answer
    question: QuestionForm = field(default_factory=QuestionForm)
    prompts: PromptCache = field(default_factory=PromptCache)

    @classmethod
    def of(
        cls,
        name: str,
        encoder: ChatEncoder,
        engine: Engine,
        question: QuestionForm | None = None,
        allowed: Collection[str] = (),
    ) -> "Teacher":
        """Join an engine, a tokenizer and the form of the multiple-choice question.

        ``allowed`` names the findings at loading that were no reason to refuse; they belong to the fingerprint.

        Raises:
            ValueError: if the tokenizer has ids that the engine's vocabulary lacks.
            CannotServe: if the question's letters are no tokens of their own.
            TemplateError: if the template refuses the question, or changes the beginning of its answer.
        """
        form = question or QuestionForm()
        tokenizer: Any = encoder.tokenizer
        largest = max(tokenizer.get_vocab().values())
        if largest >= engine.vocabulary:
            raise ValueError(f"the tokenizer has an id of {largest} and the model only {engine.vocabulary} tokens")
        identity = TeacherId(model=name, fingerprint=fingerprint(encoder, engine, form, allowed))
        return cls(identity, encoder, engine, _letters(encoder, form), form)

    def question_ids(self, request: str, options: Sequence[str]) -> list[int]:
        """Ids of the question which of ``options`` answers ``request`` best, up to where the letter comes next.

        Raises:
            TemplateError: if the template refuses the conversation.
        """
        return self.encoder.prefilled_ids(self.question.messages(request, options), self.question.answer)


def fingerprint(encoder: ChatEncoder, engine: Engine, form: QuestionForm, allowed: Collection[str] = ()) -> str:
    """A digest of all that decides a score: weights, config, dtype, tokenizer, template, question and allowances."""
    tokenizer: Any = encoder.tokenizer
    parts = [
        engine.digest(),
        engine.dtype,
        tokenizer.backend_tokenizer.to_str(),
        json.dumps(tokenizer.chat_template, sort_keys=True),
        encoder.describe(),
        form.model_dump_json(),
        *sorted(allowed),
    ]
    # Each length comes first, so that different parts never give the same bytes.
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:32]


def _letters(encoder: ChatEncoder, form: QuestionForm) -> list[int]:
    """Ids of A, B, … as the tokens that come next after the begun answer, as far as each is one of its own.

    Raises:
        CannotServe: if fewer than two letters are: a choice needs two.
    """
    messages = form.messages("?", ["?", "?"])
    begun = encoder.prefilled_ids(messages, form.answer)
    if form.answer:
        after = [encoder.prefilled_ids(messages, form.answer + letter) for letter in LETTERS]
    else:
        after = [begun + ids for ids in encoder.response_ids(LETTERS, [False] * len(LETTERS))]
    ids: list[int] = []
    for whole in after:
        if whole[:-1] != begun or whole[-1] in ids:
            break
        ids.append(whole[-1])
    if len(ids) < 2:
        raise CannotServe(
            f"the tokenizer joins an option's letter with the end of {form.answer!r}, the answer's beginning; give"
            " --question FILE with another answer, such as one that ends in a blank, or an empty one"
        )
    return ids
