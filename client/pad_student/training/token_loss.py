"""Assembles a micro-batch's loss and metrics for DCKD and ADPA; the losses are in ``preference/token_losses.py``."""

from typing import Any

import torch
from torch import Tensor, nn

from pad_student.model.logprobs import ResponseLogLikelihoods, response_log_likelihoods
from pad_student.preference.config import PADConfig
from pad_student.preference.token_losses import (
    Actions,
    adpa,
    advantages,
    dckd,
    entropy,
    forward_kl,
    mean_advantage,
    nll,
)
from pad_student.training.loss import BatchLoss
from pad_student.training.token_batches import empty_token_batch, token_batch_of
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder


class TokenMethod:
    """DCKD or ADPA: batches, the student's pass and the loss.

    Args:
        config: the run's.
        encoder: the student's.
    """

    def __init__(self, config: PADConfig, encoder: ChatEncoder) -> None:
        self._config = config
        self._encoder = encoder
        self._is_adpa = config.method == "adpa"
        self._rows = config.part_size + self._is_adpa  # of one set, its answer included

    def batch(self, sets: list[ScoredSet]) -> dict[str, Tensor]:
        """A micro-batch's tensors; without sets one that weighs nothing."""
        if not sets:
            return empty_token_batch(self._rows, self._encoder.end_of_turn, reference=self._is_adpa)
        return token_batch_of(sets, self._encoder, reference=self._is_adpa)

    def student(self, model: nn.Module, batch: dict[str, Any], shares_prompts: bool) -> ResponseLogLikelihoods:
        """Run the student on a micro-batch, each prompt once if they are shared."""
        return response_log_likelihoods(
            model,
            batch["input_ids"],
            batch["attention_mask"],
            batch["response_mask"],
            per_token=True,
            shared=shares_prompts,
            max_tokens=self._config.max_forward_tokens,
            named=batch["named_T_A"].split(batch["tokens_B"].tolist()),
        )

    def loss(self, batch: dict[str, Any], student: ResponseLogLikelihoods) -> BatchLoss:
        """The loss, averaged over the micro-batch's prompts, and its metrics."""
        rows = self._rows
        sets = len(batch["tokens_B"]) // rows
        loss_P, metrics = (self._adpa if self._is_adpa else self._dckd)(batch, student, sets, rows)
        metrics |= {"loss/preference": loss_P.mean().item(), "share/cut": batch["cut"].float().mean().item()}
        means_P_N = (student.log_likelihood.detach() / student.tokens).view(sets, rows)
        return BatchLoss(loss_P.mean(), means_P_N, metrics, {})

    def _dckd(
        self, batch: dict[str, Any], student: ResponseLogLikelihoods, sets: int, rows: int
    ) -> tuple[Tensor, dict[str, float]]:
        chosen, rejected = (_actions(batch, student, range(k, sets * rows, rows)) for k in (0, 1))
        nll_P = _nll(batch, student, range(0, sets * rows, rows))
        config = self._config
        loss_P = dckd(
            config.nll_weight * nll_P,
            chosen,
            rejected,
            chosen_weight=config.chosen_weight,
            rejected_weight=config.rejected_weight,
        )
        with torch.no_grad():
            metrics = {"loss/nll": nll_P.mean().item(), **_of_actions(chosen)}
            metrics |= {f"kl/{name}": forward_kl(each).mean().item() for name, each in _named(chosen, rejected)}
        return loss_P, metrics

    def _adpa(
        self, batch: dict[str, Any], student: ResponseLogLikelihoods, sets: int, rows: int
    ) -> tuple[Tensor, dict[str, float]]:
        sampled = _actions(batch, student, [k for k in range(sets * rows) if k % rows != rows - 1])
        answers = range(rows - 1, sets * rows, rows)
        nll_P = _nll(batch, student, answers)
        n = rows - 1
        # The mean over n samples of a prompt: each has the prompt's one answer.
        loss_R = adpa(self._config.nll_weight * nll_P.repeat_interleave(n), sampled, gamma=self._config.gamma)
        with torch.no_grad():
            metrics = {"loss/nll": nll_P.mean().item(), **_of_actions(sampled)}
            metrics["advantage/mean"] = mean_advantage(sampled).mean().item()
            expected_T = (sampled.student_T_A.exp() * advantages(sampled)).sum(-1)
            metrics["advantage/most_negative"] = expected_T.min().item()
            metrics["kl/sampled"] = forward_kl(sampled).mean().item()
        return loss_R.view(sets, n).mean(1), metrics


def _named(chosen: Actions, rejected: Actions) -> list[tuple[str, Actions]]:
    return [("chosen", chosen), ("rejected", rejected)]


def _nll(batch: dict[str, Any], student: ResponseLogLikelihoods, rows: Any) -> Tensor:
    tokens_R = batch["tokens_B"][list(rows)]
    return nll(_of_rows(student.token_log_likelihoods, rows), tokens_R)


def _actions(batch: dict[str, Any], student: ResponseLogLikelihoods, rows: Any) -> Actions:
    """The distributions of some rows, under all models."""
    sizes = batch["tokens_B"].tolist()
    reference = batch.get("reference_T_A")
    return Actions(
        batch["tokens_B"][list(rows)],
        _of_rows(batch["teacher_T_A"].split(sizes), rows),
        _of_rows(student.named_log_likelihoods, rows),
        None if reference is None else _of_rows(reference.split(sizes), rows),
    )


def _of_rows(parts: Any, rows: Any) -> Tensor:
    return torch.cat([parts[k] for k in rows])


def _of_actions(actions: Actions) -> dict[str, float]:
    """Mass outside the named tokens, and entropies over the actions, means over tokens."""
    return {
        "rest/teacher": actions.teacher_T_A[:, -1].exp().mean().item(),
        "rest/student": actions.student_T_A[:, -1].exp().mean().item(),
        "token_entropy/teacher": entropy(actions.teacher_T_A).mean().item(),
        "token_entropy/student": entropy(actions.student_T_A).mean().item(),
    }


# pyright: standard
