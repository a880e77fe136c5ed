"""The engine boundary: token ids in, float32 log-probabilities out. A new engine implements ``Engine``.

A model behind an API, whose tokens nobody can see, is a ``Runtime``: words in.

Rendering, option orders, normalisation, batching and admission are written once, above this protocol.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from pad_teacher.engines.queries import Answer, FloatArray, Query, Questions, TokenSet
from pad_teacher.errors import Refusal


class EngineFailed(RuntimeError):
    """The runtime is broken, for example by a device error: its answers can no longer be trusted."""


class RowTooLarge(RuntimeError):
    """A row does not fit the device's memory; other rows may."""


class Runtime(Protocol):
    """What computes the answers to queries, here or elsewhere.

    - ``score`` is called from at most ``concurrent_batches`` threads at a time.
    - If it ``mixes`` queries, many of them are faster together; if not, each is given alone.

    Raises (any method):
        EngineFailed: it must not be used again.
    """

    name: str
    concurrent_batches: int = 1  # more for a runtime that mixes batches, which would idle at the end of each
    mixes: bool = True

    @abstractmethod
    def score(self, queries: Sequence[Any]) -> Sequence[Answer | Refusal]:
        """The answer to each query, or the reason why there is none; other queries may have theirs."""
        ...

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over all that decides a score."""
        ...

    def check(self) -> None:
        """Raise ``EngineFailed`` if the runtime has died; called several times a second, also while it is idle."""

    def interrupt(self) -> None:
        """End the calls of ``score`` under way, if they only wait; a device's passes end by themselves."""

    def close(self) -> None:
        """Stop the runtime; no other method is called afterwards."""


class Engine(Runtime, Protocol):
    """One resident model.

    - Values are finite if the model's are; the service refuses to send others to a client.

    Raises (any method):
        RowTooLarge: a row of the call does not fit the device's memory, even alone.
    """

    dtype: str
    vocabulary: int
    max_context_tokens: int
    scores_given_ids: bool = True  # answers ``NextTokens`` that name their ids
    most_ids: int | None = None  # likeliest ids that it can tell at a token, those past ``below`` included

    @abstractmethod
    def score(self, queries: Sequence[Query]) -> list[Answer]:
        """The answer to each query, in as few forward passes as possible."""
        ...

    @abstractmethod
    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """Log-probabilities of one response, computed slowly and plainly: the golden check compares with them."""
        ...

    def reference_label_logprobs(self, prompt_ids: list[int], label_ids: list[int]) -> FloatArray:
        """Log-probability of each label as the next token after the prompt, computed as slowly and plainly."""
        return np.concatenate([self.reference_logprobs(prompt_ids, [label]) for label in label_ids])

    def token_logprobs(self, sets: Sequence[TokenSet]) -> list[list[FloatArray]]:
        """Log-probability of each response token given all before it: ``[set][response][token]``, in nats."""
        return cast(list[list[FloatArray]], self.score(sets))

    def label_logprobs(self, prompts: Sequence[list[int]], labels: Sequence[list[int]]) -> list[FloatArray]:
        """Log-probability of each label id as the next token after its prompt: ``[prompt][label]``, in nats."""
        asked = [Questions([ids], wanted) for ids, wanted in zip(prompts, labels, strict=True)]
        return [cast(list[FloatArray], answer)[0] for answer in self.score(asked)]


@runtime_checkable
class Measured(Protocol):
    """An engine that measures the memory of its passes, and how much is free."""

    def measure_memory(self) -> None:
        """Measure both again."""
        ...
