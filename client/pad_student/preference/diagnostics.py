"""Metrics that show a flat, saturated or broken preference signal, and warnings about it in plain words."""

from collections import deque
from collections.abc import Mapping
from itertools import combinations
from math import isfinite, lgamma, log

import torch
from torch import Tensor

from pad_student.preference.plackett_luce import MAX_EXACT, entropy, estimated_entropy

ONE_HOT_BELOW = 0.02  # of normalised entropy
UNIFORM_ABOVE = 0.98
LOW_LABEL_MASS = 0.5
CHANCE_SPREAD = 0.25  # of the orders' disagreement: with less, choice follows letters more than responses
CHANCE_STEPS = 3  # steps of many prompts tell this already, and a run should know early
DISPLACEMENT = 0.1  # nats a token
VANISHED_GRADIENT = 1e-8
PLATEAU = 0.99 * log(2)
RANK_PREFIX = "mean_log_likelihood/rank_"


@torch.no_grad()
def preference_metrics(
    scores_teacher: Tensor, scores_student: Tensor, mean_log_likelihood: Tensor, label_mass: Tensor | None = None
) -> dict[str, float]:
    """Averages over the prompts of a batch.

    Args:
        scores_teacher: [P, N], β applied, n ≥ 2.
        scores_student: [P, N], β applied.
        mean_log_likelihood: of each response under the student, nats a token, [P, N].
        label_mass: probability the teacher put on option letters at all, [P].

    Returns:
        ``entropy/teacher`` and ``entropy/student``, of the rankings, over ln n!: 0 one-hot, 1 uniform; exact
        up to 16 responses, an estimate above, which is the same for the same scores and reads no random state;
        ``agreement/top1``; ``agreement/pairwise``, over pairs tied on neither side, nan if there is none;
        ``mean_log_likelihood/rank_1`` (the teacher's best) to ``…/rank_n``; ``label_mass`` if given.

    Raises:
        ValueError: for n below 2, differing shapes or non-finite scores.

    """
    n = scores_teacher.shape[-1]
    if n < 2 or not scores_teacher.shape == scores_student.shape == mean_log_likelihood.shape:
        shapes = [list(tensor.shape) for tensor in (scores_teacher, scores_student, mean_log_likelihood)]
        raise ValueError(f"metrics need three tensors of one shape [prompts, n], n ≥ 2, got {shapes}")
    ranking_P_N = scores_teacher.argsort(dim=1, descending=True, stable=True)
    by_rank_N = mean_log_likelihood.float().gather(1, ranking_P_N).mean(0)
    uncertainty = entropy if n <= MAX_EXACT else estimated_entropy
    metrics = {
        "entropy/teacher": uncertainty(scores_teacher).mean().item() / lgamma(n + 1),
        "entropy/student": uncertainty(scores_student).mean().item() / lgamma(n + 1),
        "agreement/top1": _top1_agreement(scores_teacher, scores_student),
        "agreement/pairwise": _pairwise_agreement(scores_teacher, scores_student),
    }
    metrics |= {f"{RANK_PREFIX}{rank}": value for rank, value in enumerate(by_rank_N.tolist(), 1)}
    if label_mass is not None:
        metrics["label_mass"] = label_mass.float().mean().item()
    return metrics


@torch.no_grad()
def choice_metrics(selection_spread: Tensor | None, order_disagreement: Tensor | None) -> dict[str, float]:
    """Averages over the prompts of a batch that tell whether the teacher's choice means anything.

    Args:
        selection_spread: total variation between a set's selection probabilities and equal ones, 0 to 1, [P].
        order_disagreement: largest total variation between two orders of one set's responses, 0 to 1, [P].

    Returns:
        ``choice/spread`` and ``choice/order_disagreement``, each if it is given.
    """
    given = {"choice/spread": selection_spread, "choice/order_disagreement": order_disagreement}
    return {name: value.float().mean().item() for name, value in given.items() if value is not None}


@torch.no_grad()
def response_metrics(
    rewards_teacher: Tensor, rewards_student: Tensor, tokens: Tensor, text_bytes: Tensor
) -> dict[str, float]:
    """Averages over the responses of a batch: rewards of both sides, and lengths.

    Args:
        rewards_teacher: [P, N], without β.
        rewards_student: [P, N], without β.
        tokens: of the student's tokenizer, [P, N].
        text_bytes: UTF-8 bytes, [P, N].

    Returns:
        ``reward/teacher``, ``reward/student``, ``length/tokens`` and ``length/bytes``.

    """
    values = {"reward/teacher": rewards_teacher, "reward/student": rewards_student}
    lengths = {"length/tokens": tokens, "length/bytes": text_bytes}
    return {name: value.double().mean().item() for name, value in (values | lengths).items()}


def _top1_agreement(scores_teacher_P_N: Tensor, scores_student_P_N: Tensor) -> float:
    """How often the student's best is one of the teacher's best."""
    students_best_P_1 = scores_student_P_N.argmax(1, keepdim=True)
    agrees_P_1 = scores_teacher_P_N.gather(1, students_best_P_1) == scores_teacher_P_N.amax(1, keepdim=True)
    return agrees_P_1.float().mean().item()


def _pairwise_agreement(scores_teacher_P_N: Tensor, scores_student_P_N: Tensor) -> float:
    first, second = zip(*combinations(range(scores_teacher_P_N.shape[1]), 2), strict=True)
    side_T, side_S = (
        (s[:, list(first)] - s[:, list(second)]).sign() for s in (scores_teacher_P_N, scores_student_P_N)
    )
    untied = side_T * side_S != 0
    return (side_T == side_S)[untied].float().mean().item() if untied.any() else float("nan")


class SignalMonitor:
    """Judges every step's metrics; each warning names the problem, its meaning and the remedy.

    Invariants:
        - Each kind of warning is given once.
        - A judgement needs a full window, so one odd batch raises no alarm; gradient norms are judged alone, and
          choice at chance within the first steps.

    Args:
        loss: name of the loss in ``losses.LOSSES``; only ``ppd`` has a ceiling to be stuck at.
        window: number of steps that a judgement averages over.

    """

    def __init__(self, loss: str = "ppd", window: int = 20):
        self._bounded = loss == "ppd"
        self._window = window
        self._recent: dict[str, deque[float]] = {}
        self._first: dict[str, float] = {}
        self._said: set[str] = set()
        self._choices: deque[tuple[float, float]] = deque(maxlen=CHANCE_STEPS)

    def update(
        self, metrics: Mapping[str, float], loss: float | None = None, gradient_norm: float | None = None
    ) -> list[str]:
        """Take one step's metrics, loss and gradient norm; return the warnings that are new."""
        means = self._means({**metrics, **({} if loss is None else {"loss": loss})})
        found = {
            **_teacher_warnings(means),
            **_gradient_warnings(gradient_norm),
            **self._chance_warning(metrics),
            **self._displacement_warning(means),
            **self._plateau_warning(means),
        }
        new = [message for kind, message in found.items() if kind not in self._said]
        self._said |= found.keys()
        return new

    def _means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Moving averages of the values that have filled a window; the first window's are kept to compare with."""
        for name, value in values.items():
            self._recent.setdefault(name, deque(maxlen=self._window)).append(value)
        full = {
            name: sum(recent) / self._window for name, recent in self._recent.items() if len(recent) == self._window
        }
        self._first = full | self._first
        return full

    def _chance_warning(self, metrics: Mapping[str, float]) -> dict[str, str]:
        spread, disagreement = metrics.get("choice/spread"), metrics.get("choice/order_disagreement")
        if spread is None or disagreement is None:
            return {}
        self._choices.append((spread, disagreement))
        means = [sum(values) / len(self._choices) for values in zip(*self._choices, strict=True)]
        if len(self._choices) < CHANCE_STEPS or means[0] >= CHANCE_SPREAD * means[1]:
            return {}
        return {
            "choice at chance": (
                f"The teacher's choice is near chance: its selection probabilities are {means[0]:.2f} from equal"
                f" ones, while two orders of the same responses differ by {means[1]:.2f} (total variation). It"
                " follows letters more than responses. Set alpha to 0, or serve the teacher with another --question;"
                " pad-student audit measures which signal to trust."
            )
        }

    def _displacement_warning(self, means: Mapping[str, float]) -> dict[str, str]:
        falls = [self._first[name] - mean for name, mean in means.items() if name.startswith(RANK_PREFIX)]
        if not falls or min(falls) < DISPLACEMENT:
            return {}
        return {
            "displacement": (
                f"The mean log-likelihood of responses of every rank has fallen, the least by {min(falls):.2f} nats a"
                " token: the ranking may improve while every response becomes less likely (likelihood displacement)."
                " Raise the anchor weight, lower the learning rate, sample responses afresh more often, or lower"
                " beta_student."
            )
        }

    def _plateau_warning(self, means: Mapping[str, float]) -> dict[str, str]:
        if not self._bounded or means.get("loss", 0.0) < PLATEAU:
            return {}
        return {
            "plateau": (
                f"The loss has stayed at {means['loss']:.3f}, its ceiling of ln 2: teacher and student put their mass"
                " on different rankings, where the JSD is flat and teaches nothing. Lower beta_teacher or"
                " beta_student, compare fewer responses at once (raise parts), or use another loss (forward_kl, vpd)."
            )
        }


def _teacher_warnings(means: Mapping[str, float]) -> dict[str, str]:
    warnings: dict[str, str] = {}
    spread, mass = means.get("entropy/teacher", 0.5), means.get("label_mass", 1.0)
    if spread < ONE_HOT_BELOW:
        warnings["one-hot"] = (
            f"The teacher's preference has {spread:.1%} of the greatest entropy: it is almost certain of one ranking,"
            " so PPD can learn no more than VPD would, and its gradient is small. Lower beta_teacher, or alpha if"
            " selection probabilities are extreme."
        )
    if spread > UNIFORM_ABOVE:
        warnings["uniform"] = (
            f"The teacher's preference has {spread:.1%} of the greatest entropy: it tells the responses hardly apart,"
            " so there is nothing to learn. Raise beta_teacher, change alpha, or sample more varied responses"
            " (temperature)."
        )
    if mass < LOW_LABEL_MASS:
        warnings["label mass"] = (
            f"The teacher puts only {mass:.0%} of its probability on option letters: it does not answer the choice"
            " it is asked, so selection probabilities are mostly noise. Lower alpha (0 uses the likelihood alone),"
            " or use a teacher that follows instructions."
        )
    return warnings


def _gradient_warnings(gradient_norm: float | None) -> dict[str, str]:
    if gradient_norm is None:
        return {}
    if not isfinite(gradient_norm):
        return {
            "gradient not finite": (
                f"The gradient norm is {gradient_norm}: this update is spoilt, and the weights with it unless it is"
                " skipped. Lower the learning rate or beta_student, and keep max_grad_norm set."
            )
        }
    if gradient_norm < VANISHED_GRADIENT:
        return {
            "gradient vanished": (
                f"The gradient norm is {gradient_norm:.1e}: the student learns nothing from this signal, which is"
                " flat or saturated, or no weight is trainable. Look at both entropies, then change beta_teacher or"
                " beta_student."
            )
        }
    return {}


# pyright: standard
