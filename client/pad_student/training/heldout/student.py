"""The student's side of an evaluation: one answer to each prompt, and the log-likelihoods of answers."""

from collections.abc import Sequence
from typing import Any

import torch

from pad_student.data.drawn_ids import ids_of
from pad_student.data.prompts import PromptLine
from pad_student.model.logprobs import collate, response_log_likelihoods
from pad_student.preference.config import PADConfig
from pad_student.sampling.generate import sample_responses
from pad_student.storage.terminal.status import STATUS
from pad_torch.modes import evaluating
from pad_wire import Response
from pad_wire.chat import ChatEncoder

ROWS = 8  # of one forward pass without gradient


def answers(
    model: Any, encoder: ChatEncoder, rows: Sequence[PromptLine], config: PADConfig
) -> list[tuple[PromptLine, Response]]:
    """One answer to each prompt, with the same seeds each time; a prompt that got no text is left out."""
    found: list[tuple[PromptLine, Response]] = []
    with STATUS.phase("answering held-out prompts", len(rows)) as phase:
        for first in range(0, len(rows), config.sampling_batch_size):
            some = rows[first : first + config.sampling_batch_size]
            sampled = sample_responses(
                model,
                encoder,
                [row.prompt for row in some],
                n=1,
                temperature=config.temperature,
                max_new_tokens=config.max_response_tokens,
                seed=config.seed,
                keys=[f"{row.id}@heldout" for row in some],
            )
            found += [(row, given[0]) for row, given in zip(some, sampled, strict=True) if given]
            phase.update(len(some))
    return found


@torch.no_grad()
def log_likelihoods(
    model: Any, encoder: ChatEncoder, answered: Sequence[tuple[PromptLine, Response]]
) -> list[tuple[float, int]]:
    """Each answer's log-likelihood after its prompt in nats, and its tokens."""
    found: list[tuple[float, int]] = []
    for first in range(0, len(answered), ROWS):
        some = answered[first : first + ROWS]
        prompt_ids = [encoder.prompt_ids(row.prompt) for row, _ in some]
        response_ids = ids_of(encoder, [each for _, each in some])
        batch = collate(prompt_ids, response_ids, pad_id=encoder.end_of_turn)
        with evaluating(model):
            scored = response_log_likelihoods(model, *(each.to(model.device) for each in batch))
        found += zip(scored.log_likelihood.tolist(), scored.tokens.tolist(), strict=True)
    return found


# pyright: standard
