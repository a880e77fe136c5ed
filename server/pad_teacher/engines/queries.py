"""The queries that an engine answers, each with its cost in tokens, and the shape of their answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenSet:
    """A rendered prompt and the token ids of its responses.

    The answer is one float32 array [tokens] for each response: the log-probability of each of its tokens.
    ``cost`` counts the prompt once.
    """

    prompt_ids: list[int]
    response_ids: list[list[int]]
    cost: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cost", len(self.prompt_ids) + sum(map(len, self.response_ids)))


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts, and the labels whose probability is asked after each of them.

    The answer is one float32 array [labels] for each prompt: the log-probability of each label as the next token.
    ``cost`` counts what a prompt shares with the beginning of the prompt before it once.
    """

    prompts: list[list[int]]
    label_ids: list[int]
    cost: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = zip(self.prompts, [[], *self.prompts[:-1]], strict=True)
        object.__setattr__(self, "cost", sum(len(ids) - shared_tokens(ids, before) for ids, before in pairs))


@dataclass(frozen=True, slots=True)
class Echo:
    """Token ids to be scored as they are.

    ``everywhere`` asks for the predictions at each position, otherwise only for the one after the last token;
    ``top`` is how many of the likeliest tokens are wanted at each.
    """

    ids: list[int]
    top: int
    everywhere: bool

    @property
    def cost(self) -> int:
        """Tokens to compute."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class EchoLogprobs:
    """The answer to an ``Echo``: log-probabilities at each position that it asks about.

    ``token_logprobs`` [L-1] are those of the tokens that follow (empty unless everywhere), ``top_ids`` and
    ``top_logprobs`` [positions, top] the likeliest tokens; the last position is the one after the text's end.
    """

    token_logprobs: FloatArray
    top_ids: IntArray
    top_logprobs: FloatArray


Query = TokenSet | Questions | Echo
Answer = list[FloatArray] | EchoLogprobs


def shared_tokens(ids: Sequence[int] | IntArray, others: Sequence[int] | IntArray) -> int:
    """How many token ids the two have in common at their start."""
    length = min(len(ids), len(others))
    differ = np.not_equal(ids[:length], others[:length])
    return int(differ.argmax()) if differ.any() else length
