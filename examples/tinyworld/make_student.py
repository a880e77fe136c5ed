"""The student: a small Qwen3 that can do the world's tasks but learnt from answers that are mostly flawed."""

import random

import torch
import world
from learning import log_likelihoods, optimiser, update
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pad_wire.chat import ChatEncoder

STEPS, BATCH, RATE = 1000, 96, 3e-3


def new_student(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untrained student."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def train_student(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int = STEPS) -> Qwen3ForCausalLM:
    """Supervised training on answers in the student's styles."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    encoder = ChatEncoder.of(tokenizer)
    model = new_student(tokenizer).train()
    learner, schedule = optimiser(model, RATE, steps)
    bar = tqdm(range(steps), desc="student", unit="step")
    for _ in bar:
        prompts = [world.training_instruction(rng) for _ in range(BATCH)]
        answers = [world.answer(rng, prompt, world.STUDENT_STYLES) for prompt in prompts]
        responses = encoder.response_ids(answers, [True] * BATCH)
        sums, counts = log_likelihoods(model, [encoder.prompt_ids(p) for p in prompts], responses)
        loss = -sums.sum() / counts.sum()
        update(model, loss, learner, schedule)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.eval()
