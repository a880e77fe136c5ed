"""A fake engine, whose numbers are arithmetic, with a byte tokenizer and a chat template."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import numpy as np

from pad_teacher.engines.base import Engine, EngineFailed
from pad_teacher.engines.distributions import packed
from pad_teacher.engines.queries import (
    Answer,
    Echo,
    EchoLogprobs,
    FloatArray,
    NextTokens,
    Query,
    Questions,
    TokenSet,
)
from pad_teacher.scoring.teacher import Teacher
from pad_wire.chat import ChatEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token, so any text round-trips and ids can be counted by hand."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[2:5],
        chat_template=TEMPLATE,
    )


def log_prob(prefix: Sequence[int], token: int) -> float:
    """The fake engine's log-probability of ``token`` after ``prefix``, in nats: a hash of all these tokens."""
    digest = hashlib.blake2b(str((tuple(prefix), token)).encode(), digest_size=4).digest()
    return -0.01 - int.from_bytes(digest, "big") % 5000 / 1000


class FakeEngine(Engine):
    """Counts its calls; a test makes it wait (``gate``), fail (``failure``), die (``dead``) or return ``value``."""

    name, dtype, vocabulary, max_context_tokens = "fake", "float32", 262, 2048

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.dead = False
        self.closed = False
        self.failure: Exception | None = None
        self.value: float | None = None

    def _enter(self, size: int) -> None:
        self.calls.append(size)
        self.gate.wait(10)
        if self.failure:
            raise self.failure

    def _log_prob(self, prefix: Sequence[int], token: int) -> float:
        return log_prob(prefix, token) if self.value is None else self.value

    def score(self, queries: Sequence[Query]) -> list[Answer]:
        self._enter(len(queries))
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        match query:
            case TokenSet(prompt_ids, response_ids):
                return [self._score(prompt_ids, ids) for ids in response_ids]
            case NextTokens(tokens):
                return [self._next(query, j) for j in range(len(tokens.response_ids))]
            case Questions(prompts, label_ids):
                return [np.array([self._log_prob(ids, label) for label in label_ids], np.float32) for ids in prompts]
            case Echo():
                return self._echo(query)

    def _next(self, query: NextTokens, j: int) -> FloatArray:
        """Of a distribution that is not normalised: all that a test compares is in ``log_prob``."""
        prompt, ids = query.tokens.prompt_ids, query.tokens.response_ids[j]
        prefixes = [prompt + ids[:k] for k in range(len(ids))]
        values = np.array([[self._log_prob(prefix, t) for t in range(self.vocabulary)] for prefix in prefixes])
        named = np.argsort(-values[:, : query.below], axis=1)[:, : query.top] if query.at is None else query.at[j]
        others = values.copy()
        np.put_along_axis(others, named, -np.inf, 1)
        rest = np.logaddexp.reduce(others, axis=1).astype(np.float32)
        at_ids = np.take_along_axis(values, named, 1).astype(np.float32)
        return packed(self._score(prompt, ids), rest, named, at_ids)

    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        return self._score(prompt_ids, response_ids)

    def digest(self) -> str:
        return "0" * 64

    def check(self) -> None:
        if self.dead:
            raise EngineFailed("the engine's process has died")

    def close(self) -> None:
        self.closed = True

    def _score(self, prompt: list[int], ids: list[int]) -> FloatArray:
        return np.array([self._log_prob(prompt + ids[:k], token) for k, token in enumerate(ids)], np.float32)

    def _echo(self, text: Echo) -> EchoLogprobs:
        positions = range(1, len(text.ids) + 1) if text.everywhere else [len(text.ids)]
        tops = [
            sorted(((self._log_prob(text.ids[:p], t), t) for t in range(65, 91)), reverse=True)[: text.top]
            for p in positions
        ]
        return EchoLogprobs(
            self._score(text.ids[:1], text.ids[1:]) if text.everywhere else np.zeros(0, np.float32),
            np.array([[token for _, token in top] for top in tops]),
            np.array([[value for value, _ in top] for top in tops], np.float32),
        )


def fake_teacher(engine: FakeEngine | None = None) -> Teacher:
    """A whole teacher around the fake engine."""
    return Teacher.of("fake", ChatEncoder.of(byte_tokenizer()), engine or FakeEngine())
