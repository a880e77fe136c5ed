"""The engine boundary: token ids in, float32 log-probabilities out; everything about a runtime stays behind it.

Rendering, option orders, normalisation, batching and admission are written once, above this protocol.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class EngineFailed(RuntimeError):
    """The runtime is broken (a device error, say): nothing it answers from now on can be trusted."""


class RowTooLarge(RuntimeError):
    """One row alone does not fit the device's memory; others may."""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """A rendered prompt and the token ids of its responses; the answer is one array of log-probabilities each."""

    prompt_ids: list[int]
    response_ids: list[list[int]]


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts that ask for one of the same labels; the answer is one array a prompt: a log-probability a label."""

    prompts: list[list[int]]
    label_ids: list[int]


@dataclass(frozen=True, slots=True)
class Echo:
    """Token ids to be scored as they stand; ``everywhere`` asks for each position, else only what comes next."""

    ids: list[int]
    top: int
    everywhere: bool


@dataclass(frozen=True, slots=True)
class EchoLogprobs:
    """For each position asked about: the log-probability of the token that follows, and of the ``top`` likeliest.

    ``token_logprobs`` [L-1] (empty unless everywhere), ``top_ids`` and ``top_logprobs`` [positions, top]; the last
    position is the one after the text's end.
    """

    token_logprobs: FloatArray
    top_ids: IntArray
    top_logprobs: FloatArray


Query = TokenSet | Questions | Echo
Answer = list[FloatArray] | EchoLogprobs


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
