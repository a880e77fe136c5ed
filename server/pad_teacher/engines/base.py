"""The engine boundary: token ids in, float32 log-probabilities out; everything about a runtime stays behind it.

Rendering, option orders, normalisation, batching and admission are written once, above this protocol.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, cast

from pad_teacher.engines.queries import Answer, FloatArray, Query, Questions, TokenSet


class EngineFailed(RuntimeError):
    """The runtime is broken (a device error, say): nothing it answers from now on can be trusted."""


class RowTooLarge(RuntimeError):
    """One row alone does not fit the device's memory; others may."""


class Engine(Protocol):
    """One resident model. ``score`` is called from at most ``concurrent_batches`` threads at a time.

    Values may be non-finite where the model's are: whoever sends them on refuses those.

    Raises (any method):
        EngineFailed: the engine must not be used again.
        RowTooLarge: a row of the call exceeds the device's memory even alone.
    """

    name: str
    dtype: str
    vocabulary: int
    max_context_tokens: int
    concurrent_batches: int = 1  # more where the runtime mixes them, and the end of one would leave it idle

    @abstractmethod
    def score(self, queries: Sequence[Query]) -> list[Answer]:
        """The answer to each query, all of them in as few passes through the model as the engine can."""
        ...

    @abstractmethod
    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """Log-probabilities of one response, the slow and plain way: what the golden score compares with."""
        ...

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over the config, the weights and all else that decides a score."""
        ...

    def check(self) -> None:
        """Raise ``EngineFailed`` where the runtime has died though nothing was asked of it; called all the time."""

    def close(self) -> None:
        """Stop the runtime; the last call."""

    def token_logprobs(self, sets: Sequence[TokenSet]) -> list[list[FloatArray]]:
        """Log-probability of each response token given all before it: ``[set][response][token]``, in nats."""
        return cast(list[list[FloatArray]], self.score(sets))

    def label_logprobs(self, prompts: Sequence[list[int]], labels: Sequence[list[int]]) -> list[FloatArray]:
        """Log-probability of each label id as the next token after its prompt: ``[prompt][label]``, in nats."""
        asked = [Questions([ids], wanted) for ids, wanted in zip(prompts, labels, strict=True)]
        return [cast(list[FloatArray], answer)[0] for answer in self.score(asked)]
