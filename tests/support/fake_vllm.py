"""A stand-in for vLLM: computed log-probabilities, and a prefix cache that returns garbage for cached rows."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pad_teacher.engines.vllm.requests import MAX_NEXT_IDS, VllmRequest, sampling_params
from support.fakes import log_prob

VOCABULARY = 262
GARBAGE = -777.0


@dataclass
class Flat:
    """vLLM's FlatLogprobs, as far as it is read."""

    rows: list[list[tuple[int, float]]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def token_ids(self) -> list[int]:
        return [token for row in self.rows for token, _ in row]

    @property
    def logprobs(self) -> list[float]:
        return [value for row in self.rows for _, value in row]


@dataclass
class FakeVllm:
    """Answers as vLLM 0.32 does; ``second_runner`` leaves cached rows out where the first one gives garbage."""

    block: int = 4
    second_runner: bool = False
    garbage_has_the_right_ids: bool = True
    cached_tokens: Any = "as they are"
    asked: list[VllmRequest] = field(default_factory=list)
    blocks: set[tuple[int, ...]] = field(default_factory=set)

    async def send(self, request: VllmRequest) -> Any:
        self.asked.append(request)
        params = sampling_params(request)
        assert params["detokenize"] is False
        assert (params["max_tokens"], params["temperature"]) == (1, 0)
        assert "logprobs" not in params
        assert len(request.next_ids) <= MAX_NEXT_IDS
        hit = 0 if params["skip_reading_prefix_cache"] else self._hit(request.ids)
        for end in range(self.block, len(request.ids) + 1, self.block):
            self.blocks.add(tuple(request.ids[:end]))
        return SimpleNamespace(
            prompt_logprobs=None if params["prompt_logprobs"] is None else self._prompt(request, hit),
            outputs=[SimpleNamespace(logprobs=self._next(request) if request.next_ids else None)],
            num_cached_tokens=hit if self.cached_tokens == "as they are" else self.cached_tokens,
        )

    def _hit(self, ids: list[int]) -> int:
        """Tokens from the cache; the last one is always computed."""
        hits = (end for end in range(self.block, len(ids), self.block) if tuple(ids[:end]) in self.blocks)
        hit = 0
        for end in hits:
            if end != hit + self.block:
                break
            hit = end
        return hit

    def _prompt(self, request: VllmRequest, hit: int) -> Flat:
        rows: list[list[tuple[int, float]]] = [[]]
        for position in range(hit if self.second_runner else 0, len(request.ids) - 1):
            prefix, token = request.ids[: position + 1], request.ids[position + 1]
            if position < hit:
                token = token if self.garbage_has_the_right_ids else 1234567890
                rows.append([(token, GARBAGE)] * (1 + request.top))
            else:
                rows.append([(token, log_prob(prefix, token)), *likeliest(prefix, request.top)])
        return Flat(rows)

    def _next(self, request: VllmRequest) -> Flat:
        sampled = likeliest(request.ids, 1)[0]
        filling = [(0, float("-inf"))] * 3  # other requests of the step asked for more
        return Flat([[sampled, *((token, log_prob(request.ids, token)) for token in request.next_ids), *filling]])


def likeliest(prefix: list[int], top: int) -> list[tuple[int, float]]:
    """The ``top`` likeliest next tokens and their log-probabilities."""
    ranked = sorted(((log_prob(prefix, token), token) for token in range(VOCABULARY)), reverse=True)[:top]
    return [(token, value) for value, token in ranked]
