"""Assembles a micro-batch's loss and metrics from log-likelihoods; the losses are in ``preference/losses.py``."""

from typing import NamedTuple

from torch import Tensor, nn

from pad_student.model.logprobs import response_log_likelihoods
from pad_student.preference.config import PADConfig
from pad_student.preference.losses import LOSSES, anchor_nll
from pad_student.preference.metrics import (
    agreement_weights,
    choice_metrics,
    preference_metrics,
    response_metrics,
    sample_metrics,
)
from pad_student.preference.rewards import likelihood_reward, student_normalization


class BatchLoss(NamedTuple):
    """The loss of a micro-batch.

    Attributes:
        loss: scalar with gradient: the mean over the prompts, in nats.
        scores_student: [P, N], β applied.
        metrics: ``loss/preference``, those of ``preference.metrics``, and ``loss/anchor`` if there is an anchor.
        weights: of metrics that are means over something else than the prompts.
        losses: of each prompt in nats, [P], without gradient and without the anchor; ``pad`` alone tells them.
    """

    loss: Tensor
    scores_student: Tensor
    metrics: dict[str, float]
    weights: dict[str, int]
    losses: Tensor | None = None


def student_log_likelihoods(
    model: nn.Module, batch: dict[str, Tensor], config: PADConfig, shares_prompts: bool
) -> tuple[Tensor, Tensor]:
    """Run the student on a micro-batch.

    Args:
        model: the student.
        batch: as ``batch_of`` makes it.
        config: how many tokens one forward pass takes.
        shares_prompts: whether a prompt is computed once for all of its responses.

    Returns:
        The responses' log-likelihoods in nats, with gradient, and their tokens, both [P, N].
    """
    student = response_log_likelihoods(
        model,
        batch["input_ids"],
        batch["attention_mask"],
        batch["response_mask"],
        shared=shares_prompts,
        max_tokens=config.max_forward_tokens,
    )
    shape = batch["rewards_teacher"].shape
    return student.log_likelihood.view(shape), student.tokens.view(shape)


def batch_loss(
    batch: dict[str, Tensor], log_likelihood_P_N: Tensor, tokens_P_N: Tensor, config: PADConfig
) -> BatchLoss:
    """The preference loss, averaged over the micro-batch's prompts, plus the anchor's share if it has one.

    Args:
        batch: as ``batch_of`` makes it.
        log_likelihood_P_N: the student's ln p(response | prompt) in nats, with gradient.
        tokens_P_N: response tokens under the student's tokenizer.
        config: which loss, normalization, β's and anchor.

    Raises:
        RewardError: for a log-likelihood that is not finite.
    """
    normalization = student_normalization(config.normalization)  # type: ignore[arg-type]
    rewards_teacher_P_N = batch["rewards_teacher"]
    rewards_student_P_N = likelihood_reward(log_likelihood_P_N, tokens_P_N, normalization, batch["text_bytes"])
    scores_teacher_P_N = config.beta_teacher * rewards_teacher_P_N
    scores_student_P_N = config.beta_student * rewards_student_P_N
    mean_log_likelihood_P_N = log_likelihood_P_N / tokens_P_N
    loss_P = LOSSES[config.loss](scores_teacher_P_N, scores_student_P_N)
    losses_P = loss_P.detach()
    metrics = {"loss/preference": losses_P.mean().item()}
    metrics |= preference_metrics(
        scores_teacher_P_N, scores_student_P_N, mean_log_likelihood_P_N, batch.get("label_mass"), batch["same_text"]
    )
    metrics |= sample_metrics(batch["same_text"], batch["cut"], batch["other_ids"])
    metrics |= choice_metrics(
        batch.get("selection_spread"), batch.get("order_disagreement"), batch.get("orders_asked")
    )
    metrics |= response_metrics(rewards_teacher_P_N, rewards_student_P_N, tokens_P_N, batch["text_bytes"])
    if config.anchor:
        anchor_P = anchor_nll(scores_teacher_P_N, mean_log_likelihood_P_N)
        metrics["loss/anchor"] = anchor_P.mean().item()
        loss_P = loss_P + config.anchor * anchor_P
    weights = agreement_weights(scores_teacher_P_N, scores_student_P_N, batch["same_text"])
    return BatchLoss(loss_P.mean(), scores_student_P_N, metrics, weights, losses_P)
