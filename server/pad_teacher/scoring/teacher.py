"""The teacher: an engine, its tokenizer and template, and the fingerprint of everything that decides a score."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from pad_teacher.engines.base import Engine
from pad_teacher.scoring.prompt_cache import PromptCache
from pad_teacher.scoring.questions import question_text
from pad_wire import TeacherId
from pad_wire.chat import ChatEncoder
from pad_wire.scoring import LETTERS


@dataclass(frozen=True, slots=True)
class Teacher:
    """An engine with its tokenizer: turns texts into token ids and log-probabilities."""

    id: TeacherId
    encoder: ChatEncoder
    engine: Engine
    letter_ids: list[int]  # of A, B, …, up to the first that is no single token of its own
    prompts: PromptCache = field(default_factory=PromptCache)

    @classmethod
    def of(cls, name: str, encoder: ChatEncoder, engine: Engine) -> "Teacher":
        """Join an engine and a tokenizer.

        Raises:
            ValueError: if the tokenizer has ids that the engine's vocabulary lacks.
        """
        tokenizer: Any = encoder.tokenizer
        largest = max(tokenizer.get_vocab().values())
        if largest >= engine.vocabulary:
            raise ValueError(f"the tokenizer has an id of {largest} and the model only {engine.vocabulary} tokens")
        return cls(
            TeacherId(model=name, fingerprint=fingerprint(encoder, engine)), encoder, engine, _letters(encoder)
        )


def fingerprint(encoder: ChatEncoder, engine: Engine) -> str:
    """A digest of all that decides a score: weights, config, dtype, tokenizer, template and question."""
    tokenizer: Any = encoder.tokenizer
    parts = [
        engine.digest(),
        engine.dtype,
        tokenizer.backend_tokenizer.to_str(),
        json.dumps(tokenizer.chat_template, sort_keys=True),
        str(encoder.end_of_turn),
        question_text("", ["", ""]),
    ]
    # Each length comes first, so that different parts never give the same bytes.
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:32]


def _letters(encoder: ChatEncoder) -> list[int]:
    ids: list[int] = []
    for token, *rest in encoder.response_ids(LETTERS, [False] * len(LETTERS)):
        if rest or token in ids:
            break
        ids.append(token)
    return ids
