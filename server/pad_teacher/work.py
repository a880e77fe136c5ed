"""The units that queue for the engine: small enough to be mixed between clients, each with its cost in tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pad_teacher.engine import Echo, EchoLogprobs, Engine, FloatArray, TokenSet


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodWork:
    """The responses of one set; its result is one array of token log-probabilities a response."""

    tokens: TokenSet

    @property
    def cost(self) -> int:
        """Tokens the engine computes: the prompt counts with each response, as it is run."""
        prompt = len(self.tokens.prompt_ids)
        return sum(prompt + len(ids) for ids in self.tokens.response_ids)


@dataclass(frozen=True, slots=True, eq=False)
class QuestionWork:
    """One multiple-choice question in one order; its result is the log-probability of each option's letter."""

    prompt_ids: list[int]
    label_ids: list[int]

    @property
    def cost(self) -> int:
        """Tokens of the question."""
        return len(self.prompt_ids)


@dataclass(frozen=True, slots=True, eq=False)
class EchoWork:
    """One text of ``/v1/completions``."""

    echo: Echo

    @property
    def cost(self) -> int:
        """Tokens of the text."""
        return len(self.echo.ids)


Work = LikelihoodWork | QuestionWork | EchoWork
Result = list[FloatArray] | FloatArray | EchoLogprobs


def run(engine: Engine, batch: Sequence[Work]) -> list[Result]:
    """Run a mixed batch, one engine call a kind; results in the order of the batch."""
    results: dict[int, Result] = {}

    def call(kind: type, method: Callable[[list[Any]], Sequence[Result]]) -> None:
        chosen = [i for i, work in enumerate(batch) if isinstance(work, kind)]
        if chosen:
            results.update(zip(chosen, method([batch[i] for i in chosen]), strict=True))

    call(LikelihoodWork, lambda works: engine.token_logprobs([work.tokens for work in works]))
    call(
        QuestionWork,
        lambda works: engine.label_logprobs([w.prompt_ids for w in works], [w.label_ids for w in works]),
    )
    call(EchoWork, lambda works: engine.echo_logprobs([work.echo for work in works]))
    return [results[i] for i in range(len(batch))]
