"""The units that queue for the engine: small enough to be mixed between clients, each with its cost in tokens."""

from dataclasses import dataclass

from pad_teacher.engines.base import Query, Questions, TokenSet
from pad_teacher.engines.embedded.rows import shared_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One query and the number of tokens that the engine computes for it."""

    query: Query
    cost: int


def set_work(tokens: TokenSet) -> Work:
    """The responses of one set: the prompt counts once."""
    return Work(tokens, len(tokens.prompt_ids) + sum(map(len, tokens.response_ids)))


def question_cost(prompt_ids: list[int], before: list[int]) -> int:
    """Tokens that one more question costs behind another: what both begin with is there already."""
    return len(prompt_ids) - shared_tokens(prompt_ids, before)


def questions_work(prompts: list[list[int]], label_ids: list[int]) -> Work:
    """Questions about one set."""
    costs = [question_cost(ids, before) for ids, before in zip(prompts, [[], *prompts[:-1]], strict=True)]
    return Work(Questions(prompts, label_ids), sum(costs))
