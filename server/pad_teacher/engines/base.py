"""The engine boundary: token ids in, float32 log-probabilities out. A new engine implements ``Engine``.

Rendering, option orders, normalisation, batching and admission are written once, above this protocol.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, cast

from pad_teacher.engines.queries import Answer, FloatArray, Query, Questions, TokenSet


class EngineFailed(RuntimeError):
    """The runtime is broken, for example by a device error: its answers can no longer be trusted."""


class RowTooLarge(RuntimeError):
    """A row does not fit the device's memory; other rows may."""


class Engine(Protocol):
    """One resident model.

    - ``score`` is called from at most ``concurrent_batches`` threads at a time.
    - Values are finite if the model's are; the service refuses to send others to a client.

    Raises (any method):
        EngineFailed: the engine must not be used again.
        RowTooLarge: a row of the call does not fit the device's memory, even alone.
    """

    name: str
    dtype: str
    vocabulary: int
    max_context_tokens: int
    concurrent_batches: int = 1  # more for a runtime that mixes batches, which would idle at the end of each

    @abstractmethod
    def score(self, queries: Sequence[Query]) -> list[Answer]:
        """The answer to each query, in as few forward passes as possible."""
        ...

    @abstractmethod
    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """Log-probabilities of one response, computed slowly and plainly: the golden check compares with them."""
        ...

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over the config, the weights and all else that decides a score."""
        ...

    def check(self) -> None:
        """Raise ``EngineFailed`` if the runtime has died; called several times a second, also while it is idle."""

    def close(self) -> None:
        """Stop the runtime; no other method is called afterwards."""

    def token_logprobs(self, sets: Sequence[TokenSet]) -> list[list[FloatArray]]:
        """Log-probability of each response token given all before it: ``[set][response][token]``, in nats."""
        return cast(list[list[FloatArray]], self.score(sets))

    def label_logprobs(self, prompts: Sequence[list[int]], labels: Sequence[list[int]]) -> list[FloatArray]:
        """Log-probability of each label id as the next token after its prompt: ``[prompt][label]``, in nats."""
        asked = [Questions([ids], wanted) for ids, wanted in zip(prompts, labels, strict=True)]
        return [cast(list[FloatArray], answer)[0] for answer in self.score(asked)]
