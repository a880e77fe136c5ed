"""Imitation: a small Qwen3 learns from answers of which some are flawed, as the student's mostly are."""

import random
from dataclasses import dataclass

import torch
import world
from learning import log_likelihoods, optimiser, update
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pad_wire.chat import ChatEncoder


@dataclass(frozen=True)
class Imitation:
    """Supervised training of a small Qwen3 on answers in some styles.

    Attributes:
        name: of the model, for the bar.
        styles: how often the world's answers have each style.
        hidden_size, intermediate_size, head_dim: of the model; the rest of its shape is fixed.
        steps, batch: updates, and answers in each.
    """

    name: str
    styles: dict[str, int]
    hidden_size: int
    intermediate_size: int
    head_dim: int
    steps: int
    batch: int


RATE = 3e-3
STUDENT = Imitation("student", world.STUDENT_STYLES, 96, 256, 24, steps=1000, batch=96)


def new_model(tokenizer: PreTrainedTokenizerFast, how: Imitation) -> Qwen3ForCausalLM:
    """An untrained model."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=how.hidden_size,
        intermediate_size=how.intermediate_size,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=how.head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def imitate(tokenizer: PreTrainedTokenizerFast, seed: int, how: Imitation) -> Qwen3ForCausalLM:
    """Train a new model."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    encoder = ChatEncoder.of(tokenizer)
    model = new_model(tokenizer, how).train()
    learner, schedule = optimiser(model, RATE, how.steps)
    for _ in (bar := tqdm(range(how.steps), desc=how.name, unit="step")):
        prompts = [world.training_instruction(rng) for _ in range(how.batch)]
        answers = [world.answer(rng, prompt, how.styles) for prompt in prompts]
        responses = encoder.response_ids(answers, [True] * how.batch)
        sums, counts = log_likelihoods(model, [encoder.prompt_ids(p) for p in prompts], responses)
        loss = -sums.sum() / counts.sum()
        update(model, loss, learner, schedule)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.eval()
