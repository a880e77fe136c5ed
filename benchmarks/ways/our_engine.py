"""All that the benchmark knows about our engine."""

from collections.abc import Sequence
from typing import Any

from worker import Job

from pad_teacher.engine import Questions, TokenSet
from pad_teacher.engine_transformers import TransformersEngine

Sets = Sequence[dict[str, Any]]


class OurEngine:
    """The embedded engine with its default limits."""

    def __init__(self, job: Job) -> None:
        self._engine = TransformersEngine.load(job.model, revision=None, dtype=job.dtype, device=job.device)

    def likelihood(self, sets: Sets) -> list[list[Any]]:
        """Log-probabilities [set][response][token]."""
        return self._engine.token_logprobs(_token_sets(sets))

    def questions(self, sets: Sets, form: str) -> list[Any]:
        """Log-probabilities of the letters of all sets' questions of one form."""
        return self._engine.score(_questions(sets, form))

    def both(self, sets: Sets, form: str) -> list[list[Any]]:
        """Both as one batch, as the service runs it; the likelihoods are returned."""
        found: list[Any] = self._engine.score([*_token_sets(sets), *_questions(sets, form)])
        return found[: len(sets)]


def _token_sets(sets: Sets) -> list[TokenSet]:
    return [TokenSet(item["prompt_ids"], item["response_ids"]) for item in sets]


def _questions(sets: Sets, form: str) -> list[Questions]:
    return [Questions([asked["ids"] for asked in item[form]], item[form][0]["labels"]) for item in sets]
