"""Samples responses from a vLLM server: loads the student's weights there, and checks that the server uses them."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from pad_student.model.logprobs import response_log_likelihoods
from pad_student.sampling.export_weights import save_whole_weights
from pad_student.sampling.generate import EMPTY_RETRIES, context_of, end_tokens, responses_with_text, stable_seed
from pad_student.sampling.vllm_server import Choice, StaleWeights, VllmServer
from pad_student.teacher.network.http import Transport
from pad_torch.modes import evaluating
from pad_wire import Prompt, Response
from pad_wire.chat import ChatEncoder

MOST_REQUESTS = 64  # concurrent requests, each for n responses
# Plain sampling from all tokens, as the student samples; the server's defaults would differ.
PLAIN: dict[str, Any] = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
PLAIN |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "ignore_eos": True}

Sample = Callable[..., list[list[Response]]]


class VllmSampler:
    """Samples through one vLLM server, on a disk that both sides see.

    Args:
        url: the server's.
        folder: holds the weights while the server reads them; emptied before and after.
        tolerance: greatest mean difference of log-probabilities over one prompt's responses, in nats a token.
        transport: replaces the network in tests.

    Raises:
        SamplerUnreachable: ``url`` is not an HTTP address.
    """

    def __init__(self, url: str, folder: Path, tolerance: float, transport: Transport | None = None) -> None:
        self._server = VllmServer(url, transport)
        self._folder = folder.absolute()
        self._tolerance = tolerance

    def with_weights_of(self, model: Any) -> Sample:
        """Load the present weights of ``model`` into the server; the returned function samples with them.

        Raises:
            SamplerError: the server does not answer, or refuses the weights.
            SamplingError: an adapter cannot be merged.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            save_whole_weights(model, self._folder)
            self._server.load(self._folder)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self.sample

    def sample(
        self,
        model: Any,
        encoder: ChatEncoder,
        prompts: Sequence[Prompt],
        *,
        n: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        keys: Sequence[str],
    ) -> list[list[Response]]:
        """Sample as ``generate.sample_responses``, with a seed for each prompt, and check one prompt's responses.

        Raises:
            StaleWeights: the server did not sample with the weights of ``model``.
            SamplerError: the server does not answer, refuses, or has too small a context.
            TemplateError: the chat template refuses a prompt.
        """
        ends = end_tokens(model, encoder)
        prompt_ids = [encoder.prompt_ids(prompt) for prompt in prompts]
        todo = [i for i, ids in enumerate(prompt_ids) if len(ids) + max_new_tokens <= context_of(model)]
        if not todo:
            return [[] for _ in prompts]
        how = {
            **PLAIN,
            "model": self._server.model(max(len(prompt_ids[i]) for i in todo) + max_new_tokens),
            "n": n,
            "temperature": temperature,
            "max_tokens": max_new_tokens,
            "stop_token_ids": sorted(ends),
            "cache_salt": self._server.version,  # the prefix cache may still hold states of earlier weights
        }
        tried: list[tuple[list[int], list[Choice]]] = []

        def generate(todo: list[int], retry: int) -> list[list[list[int]]]:
            asked = [{**how, "prompt": prompt_ids[i], "seed": stable_seed(seed, retry, keys[i])} for i in todo]
            with ThreadPoolExecutor(min(len(asked), MOST_REQUESTS)) as pool:
                replies = list(pool.map(self._server.complete, asked))
            tried.append((prompt_ids[todo[0]], replies[0]))
            return [[choice.token_ids for choice in choices] for choices in replies]

        found = responses_with_text(encoder, ends, todo, EMPTY_RETRIES if temperature > 0 else 1, generate)
        self._server.check_version()
        self._check(model, *tried[0])
        return [found.get(i, []) for i in range(len(prompts))]

    def _check(self, model: Any, prompt_ids: list[int], choices: list[Choice]) -> None:
        """Compare the server's log-probabilities of its responses with the student's."""
        own = _log_likelihoods(model, prompt_ids, [choice.token_ids for choice in choices])
        theirs = [sum(choice.logprobs.token_logprobs) for choice in choices]
        tokens = sum(len(choice.token_ids) for choice in choices)
        off = sum(abs(one - other) for one, other in zip(own, theirs, strict=True)) / tokens
        if not off <= self._tolerance:
            raise StaleWeights(
                f"log-probabilities of {self._server.name} are {off:.2g} nats a token off the student's, and"
                f" sampler_tolerance is {self._tolerance:g}: it has other weights; restart it with the student's own"
                " model, or raise sampler_tolerance if it computes in fewer bits"
            )


@torch.no_grad()
def _log_likelihoods(model: Any, prompt_ids: list[int], rows: list[list[int]]) -> list[float]:
    """The student's log-likelihood of each response's token ids, without decoding them."""
    lengths_N_1 = torch.tensor([[len(prompt_ids) + len(row)] for row in rows])
    width = int(lengths_N_1.max())
    ids_N_L = torch.tensor([(prompt_ids + row + [0] * width)[:width] for row in rows])
    place_L = torch.arange(width)
    filled_N_L = place_L < lengths_N_1
    inputs = (ids_N_L, filled_N_L.long(), filled_N_L & (place_L >= len(prompt_ids)))
    with evaluating(model):
        return response_log_likelihoods(model, *(each.to(model.device) for each in inputs)).log_likelihood.tolist()


# pyright: standard
