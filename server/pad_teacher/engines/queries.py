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


IDS_A_TOKEN = 64  # so many ids cost as much as one more token: their share of the output head, and of the reply


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The distribution over the next token, before each response token of a set.

    It names the ``top`` likeliest ids below ``below``, or the ids ``at`` [tokens, ids] of each response, none of them
    twice in a row. The answer is one row for each response, as ``engines/distributions.py`` describes it.
    ``reference`` asks the teacher's reference about the same ids.
    """

    tokens: TokenSet
    top: int
    below: int
    at: list[IntArray] | None = None
    reference: bool = False

    @property
    def cost(self) -> int:
        """Tokens to compute, once for each model, and the cost of the ids."""
        models = 2 if self.reference else 1
        responses = sum(map(len, self.tokens.response_ids))
        return models * (self.tokens.cost + responses * self.top // IDS_A_TOKEN)


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


BYTES_A_TOKEN = 4  # of UTF-8; an estimate, for a model whose tokens nobody can see


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """A multiple-choice question in words, for a model behind an API.

    ``turns`` are the role and the content of each message; ``begun`` begins the model's answer. The answer is one
    float32 array. Without ``vote`` it is [labels + 2]: the probability of each letter as far as it was returned, that
    of all tokens that were not returned, and the least that was. With the number of a ``vote`` it is [labels]: 1 at
    the letter that the model named, or zeros if it named none. ``cost`` is an estimate.
    """

    turns: tuple[tuple[str, str], ...]
    begun: str
    labels: int
    vote: int | None = None
    cost: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size = len(self.begun.encode()) + sum(len(content.encode()) for _, content in self.turns)
        object.__setattr__(self, "cost", 1 + size // BYTES_A_TOKEN)


Query = TokenSet | NextTokens | Questions | Echo  # in token ids
AnyQuery = Query | ChatQuestion
Answer = list[FloatArray] | EchoLogprobs


def shared_tokens(ids: Sequence[int] | IntArray, others: Sequence[int] | IntArray) -> int:
    """How many token ids the two have in common at their start."""
    length = min(len(ids), len(others))
    differ = np.not_equal(ids[:length], others[:length])
    return int(differ.argmax()) if differ.any() else length
