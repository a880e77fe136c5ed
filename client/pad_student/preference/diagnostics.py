"""Warnings about a flat, saturated, repeated or broken preference signal, in plain words."""

from collections import deque
from collections.abc import Mapping
from math import isfinite, log

from pad_student.preference.metrics import RANK_PREFIX

ONE_HOT_BELOW = 0.02  # of normalised entropy
UNIFORM_ABOVE = 0.98
LOW_LABEL_MASS = 0.5
CHANCE_SPREAD = 0.25  # of the orders' disagreement: with less, choice follows letters more than responses
CHANCE_STEPS = 3  # steps of many prompts tell this already, and a run should know early
MOST_ONE_TEXT = 0.5  # of sets; a good student of short answers repeats itself in a quarter of them
MOST_CUT = 0.5  # of responses
DISPLACEMENT = 0.1  # nats a token
VANISHED_GRADIENT = 1e-8
PLATEAU = 0.99 * log(2)


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
            **_sample_warnings(means),
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


def _sample_warnings(means: Mapping[str, float]) -> dict[str, str]:
    warnings: dict[str, str] = {}
    if (share := means.get("share/one_text", 0.0)) > MOST_ONE_TEXT:
        warnings["one text"] = (
            f"In {share:.0%} of sets all responses are the same text: they teach nothing, and agreement on the others"
            " tells little. If the share grew during the run, the student has collapsed: start again with a lower"
            " learning_rate. If it was so from the start, raise temperature."
        )
    if (share := means.get("share/cut", 0.0)) > MOST_CUT:
        warnings["cut"] = (
            f"{share:.0%} of responses are cut at their longest length, so the teacher judges beginnings, and length"
            " tells nothing. Raise max_response_tokens."
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
