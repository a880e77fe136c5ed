"""Code that both models' training shares: padded batches, log-likelihoods, the learning-rate schedule, sampling."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from pad_wire.chat import ChatEncoder

MAX_NEW_TOKENS = 16


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Ids filled up on the right: a causal model never looks there, so no mask is needed."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def log_likelihoods(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Each response's summed log-probability after its prompt, and its number of tokens."""
    ids = padded([[*p, *r] for p, r in zip(prompts, responses, strict=True)])
    at = torch.arange(ids.shape[1] - 1)
    ends = torch.tensor([[len(p), len(p) + len(r)] for p, r in zip(prompts, responses, strict=True)])
    scored = (at >= ends[:, :1] - 1) & (at < ends[:, 1:] - 1)
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][scored]
    chosen = -torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][scored], reduction="none")
    sums = torch.zeros(len(ids)).index_add(0, scored.nonzero()[:, 0], chosen)
    return sums, scored.sum(1)


def optimiser(
    model: torch.nn.Module, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW whose rate rises for 5 % of the steps, stays, and falls to nothing over the last half."""
    made = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    rise = max(1, steps // 20)
    return made, torch.optim.lr_scheduler.LambdaLR(
        made, lambda step: min((step + 1) / rise, 1.0, 2 * (steps - step) / steps)
    )


def update(model: torch.nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, schedule) -> None:
    """One step along the clipped gradient of ``loss``."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    schedule.step()
    optimiser.zero_grad()


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    encoder: ChatEncoder,
    prompts: Sequence[str],
    n: int,
    temperature: float,
    batch: int = 64,
) -> list[list[tuple[str, bool]]]:
    """``n`` responses a prompt and whether each was finished; temperature 0 takes the likeliest token."""
    model.eval()
    tokenizer = encoder.tokenizer
    draw = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        num_return_sequences=n,
        eos_token_id=encoder.end_of_turn,
        pad_token_id=tokenizer.pad_token_id,
        **draw,
    )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: list[list[tuple[str, bool]]] = [[] for _ in prompts]
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        rows = [encoder.prompt_ids(prompts[i]) for i in part]
        width = max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        made = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, width:]
        texts = tokenizer.batch_decode(made, skip_special_tokens=True)
        ended = (made == encoder.end_of_turn).any(1).tolist()
        for k, pair in enumerate(zip(texts, ended, strict=True)):
            found[part[k // n]].append(pair)
    return found


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """An ordinary Hugging Face directory."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.8,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
