"""The teacher: an engine, its tokenizer and template, and the fingerprint of everything that decides a score."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pad_teacher.engines.base import Engine
from pad_teacher.errors import CannotServe
from pad_teacher.scoring.prompt_cache import PromptCache
from pad_wire import TeacherId
from pad_wire.chat import ChatEncoder
from pad_wire.letters import JoinedLetters, default_question, letter_ids
from pad_wire.question import QuestionForm
from pad_wire.tokenizer_digest import tokenizer_digest

if TYPE_CHECKING:
    from pad_teacher.scoring.black_box.teacher import BlackBoxTeacher

AnyTeacher: TypeAlias = "Teacher | BlackBoxTeacher"


@dataclass(frozen=True, slots=True)
class Teacher:
    """An engine with its tokenizer: turns texts into token ids and log-probabilities."""

    id: TeacherId
    encoder: ChatEncoder
    engine: Engine
    letter_ids: list[int]  # of A, B, … as tokens after the begun answer
    question: QuestionForm = field(default_factory=QuestionForm)
    prompts: PromptCache = field(default_factory=PromptCache)
    golden_difference_nats: float | None = None  # the largest of a token in the golden check
    reference: TeacherId | None = None  # the model that it was aligned from, if the engine has it too
    tokenizer_digest: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        encoder: ChatEncoder,
        engine: Engine,
        question: QuestionForm | None = None,
        allowed: Collection[str] = (),
        reference: TeacherId | None = None,
    ) -> "Teacher":
        """Join an engine, a tokenizer and the form of the multiple-choice question.

        Without ``question`` it is the default form, or the plain one where the default cannot be asked.
        ``allowed`` names the findings at loading that were no reason to refuse; they belong to the fingerprint.
        ``reference`` names the second model of an engine that has one.

        Raises:
            ValueError: if the tokenizer has ids that the engine's vocabulary lacks.
            CannotServe: if the question's letters are no tokens of their own.
            TemplateError: if the template refuses the question, or changes the beginning of its answer.
        """
        tokenizer: Any = encoder.tokenizer
        largest = max(tokenizer.get_vocab().values())
        if largest >= engine.vocabulary:
            raise ValueError(f"the tokenizer has an id of {largest} and the model only {engine.vocabulary} tokens")
        try:
            form = question or default_question(encoder)
            letters = letter_ids(encoder, form)
        except JoinedLetters as error:
            raise CannotServe(str(error)) from None
        identity = TeacherId(model=name, fingerprint=fingerprint(encoder, engine, form, allowed))
        digest = tokenizer_digest(tokenizer)
        return cls(identity, encoder, engine, letters, form, reference=reference, tokenizer_digest=digest)

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
