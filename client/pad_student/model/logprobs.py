"""The student's log-likelihood of responses, with gradient, in bounded memory.

Only the decoder body runs on whole rows; the output head sees the positions that predict response tokens. If the
model allows, a prompt's states are computed once for all its responses. A batch may be divided into passes. They
run one after the other, and again for the gradient, so that only one pass's activations are ever held.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pad_student.model import shared_attention
from pad_student.model.forward import packed_states, padded_states, why_not_packed
from pad_student.model.output_head import forward_replaced, target_log_probs
from pad_student.model.packing import Row, packed_passes, padded_passes, rows_of
from pad_student.model.wrappers import causal_lm_of, decoder_with_head, text_config_of, unwrapped
from pad_torch.attention import attention_of
from pad_torch.logit_transform import LogitTransform


class Batch(NamedTuple):
    """Rows of prompt and response, padded on the right so that positions count from 0 in every row.

    ``input_ids`` and ``attention_mask`` are int64 [B, L], ``response_mask`` bool [B, L], true at response tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor


class ResponseLogLikelihoods(NamedTuple):
    """``log_likelihood`` [B] in nats, ``tokens`` int64 [B]; if asked for, [|y_b|] values for each row.

    ``named_log_likelihoods`` are [|y_b|, A + 1] of each row: those of the named tokens, and of the rest.
    """

    log_likelihood: Tensor
    tokens: Tensor
    token_log_likelihoods: tuple[Tensor, ...] | None = None
    named_log_likelihoods: tuple[Tensor, ...] | None = None


def collate(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    pad_id: int,
    max_length: int | None = None,
) -> Batch:
    """Join each prompt to its response and pad on the right.

    Args:
        prompt_ids: of each row; a prompt with n responses is given n times.
        response_ids: of each row, with the end-of-turn token if the response is finished.
        pad_id: any valid token id; padding is masked.
        max_length: the longest row allowed. A longer one is an error, because cutting it would change the loss.

    Raises:
        ValueError: for an empty prompt or response, a row too long, or differing numbers of rows.

    """
    rows = list(zip(prompt_ids, response_ids, strict=True))
    for index, (prompt, response) in enumerate(rows):
        if not prompt or not response:
            raise ValueError(
                f"row {index} has {len(prompt)} prompt and {len(response)} response tokens; both need one"
            )
        if max_length is not None and len(prompt) + len(response) > max_length:
            raise ValueError(f"row {index} has {len(prompt) + len(response)} tokens, more than {max_length}")
    B, L = len(rows), max(len(prompt) + len(response) for prompt, response in rows)
    input_ids_B_L = torch.full((B, L), pad_id)
    attention_mask_B_L = torch.zeros(B, L, dtype=torch.long)
    response_mask_B_L = torch.zeros(B, L, dtype=torch.bool)
    for index, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        input_ids_B_L[index, :end] = torch.tensor([*prompt, *response])
        attention_mask_B_L[index, :end] = 1
        response_mask_B_L[index, len(prompt) : end] = True
    return Batch(input_ids_B_L, attention_mask_B_L, response_mask_B_L)


def response_log_likelihoods(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    response_mask: Tensor,
    *,
    per_token: bool = False,
    chunk_size: int | None = None,
    shared: bool = False,
    max_tokens: int | None = None,
    named: Sequence[Tensor] | None = None,
) -> ResponseLogLikelihoods:
    """Log-likelihood of each row's response tokens under a causal language model, with gradient.

    Runs inside ``model``'s own ``forward``, so that DDP, FSDP and DeepSpeed take the pass for one of theirs. A model
    that Accelerate prepared for mixed precision must be called under ``accelerator.autocast()``.

    Args:
        model: a transformers causal LM, bare or wrapped by PEFT, DDP, FSDP or DeepSpeed.
        input_ids: [B, L], as ``collate`` makes them, on the model's device.
        attention_mask: [B, L].
        response_mask: bool [B, L].
        per_token: also return one value for each token.
        chunk_size: predictions whose logits are held at once; by default as ``target_log_probs`` chooses.
        shared: compute a prompt that neighbouring rows share once; only if ``why_not_shared`` has no objection.
            The backward pass of a model with gradient checkpointing must then run within ``shared_prompts``.
        max_tokens: the most tokens of a forward pass, padding included, or one row; by default all at once. More than
            one pass gives the same result, and each is run again for its gradient.
        named: token ids [|y_b|, A] of each row, whose log-likelihoods are wanted at each of its tokens.

    Returns:
        Values in float32 (float64 for a float64 model), whatever the dtype of the weights.

    Raises:
        UnsupportedModel: if the decoder body and the output head cannot be told apart.
        ValueError: if a row has no response token, or begins with one, which nothing predicts.
        RuntimeError: if Accelerate's autocast would be lost.

    """
    if response_mask[:, 0].any() or not response_mask.any(1).all():
        raise ValueError("every row needs a response token, and a prompt token before the first")
    rows = rows_of(input_ids, response_mask)
    passes = plan_passes(rows, shared=shared, max_tokens=max_tokens)

    def forward(**_: Any) -> Tensor:
        """Values of all passes, in the passes' order, made from ``rows`` instead of the inputs."""
        causal_lm = decoder_with_head(model)

        def values_of(numbers: list[int]) -> Tensor:
            of_pass = None if named is None else torch.cat([named[number] for number in numbers])
            chosen = [rows[number] for number in numbers]
            return _pass_values(causal_lm, chosen, input_ids.device, shared, chunk_size, of_pass)

        if len(passes) == 1:
            return values_of(passes[0])
        # Run without a gradient at first, and again in the backward pass, when the loss has given its own.
        return torch.cat([checkpoint(values_of, numbers, use_reentrant=False) for numbers in passes])

    _refuse_lost_autocast(unwrapped(model), input_ids.device)
    with forward_replaced(unwrapped(model), forward):
        values_K = model(input_ids=input_ids, attention_mask=attention_mask)
    per_row = _in_row_order(values_K, passes, rows)
    own = per_row if named is None else tuple(values[:, 0] for values in per_row)
    others = None if named is None else tuple(values[:, 1:] for values in per_row)
    sums_B = torch.stack([values.sum() for values in own])
    return ResponseLogLikelihoods(sums_B, response_mask.sum(1), own if per_token else None, others)


def plan_passes(rows: Sequence[Row], *, shared: bool, max_tokens: int | None) -> list[list[int]]:
    """Numbers of the rows of each forward pass, which has at most ``max_tokens`` tokens or one row."""
    return list((packed_passes if shared else padded_passes)(rows, max_tokens))


def _pass_values(
    causal_lm: Any,
    rows: Sequence[Row],
    device: torch.device,
    shared: bool,
    chunk_size: int | None,
    named_K_A: Tensor | None,
) -> Tensor:
    """Log-probabilities of the tokens that some rows predict, row after row, as ``target_log_probs`` gives them."""
    hidden_K_D, target_K = (packed_states if shared else padded_states)(causal_lm, rows, device)
    transform = LogitTransform.of(causal_lm.config.get_text_config())
    return target_log_probs(causal_lm.get_output_embeddings(), hidden_K_D, target_K, transform, chunk_size, named_K_A)


def _in_row_order(values_K: Tensor, passes: Sequence[Sequence[int]], rows: Sequence[Row]) -> tuple[Tensor, ...]:
    """Values of each row, from those of the passes."""
    order = [number for numbers in passes for number in numbers]
    found = dict(zip(order, values_K.split([len(rows[number].targets) for number in order]), strict=True))
    return tuple(found[number] for number in range(len(rows)))


def shared_prompts(model: nn.Module) -> AbstractContextManager[None]:
    """The block that the backward pass of a model with gradient checkpointing needs after ``shared``."""
    return attention_of(causal_lm_of(model), shared_attention.NAME)


def why_not_shared(model: nn.Module) -> str | None:
    """Why a model cannot compute a prompt once for all its responses, or None; tried on a small input."""
    return why_not_packed(causal_lm_of(model))


def use_defined_attention(model: nn.Module) -> None:
    """Take plain attention for a model that caps attention scores, as Gemma-2 does: fused kernels do not cap."""
    if getattr(text_config_of(model), "attn_logit_softcapping", None):
        causal_lm_of(model).set_attn_implementation("eager")


def _refuse_lost_autocast(model: nn.Module, device: torch.device) -> None:
    """Refuse a model whose autocast Accelerate put on the ``forward`` that is replaced: it would run in float32."""
    if "_original_forward" in model.__dict__ and not torch.is_autocast_enabled(device.type):
        raise RuntimeError("this model is prepared for mixed precision: call under `with accelerator.autocast():`")


# pyright: standard
