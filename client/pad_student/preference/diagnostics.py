"""Warnings about a flat, saturated, repeated or broken preference signal, and a loss that stays, in plain words."""

from collections import deque
from collections.abc import Mapping
from math import isfinite, log

from pad_student.preference.stillness import Stillness

RANK_PREFIX = "mean_log_likelihood/rank_"
ONE_HOT_BELOW = 0.02  # of normalised entropy
UNIFORM_ABOVE = 0.98
LOW_LABEL_MASS = 0.5
CHANCE_SPREAD = 0.25  # of the orders' disagreement: with less, choice follows letters more than responses
CHANCE_STEPS = 3  # steps of many prompts tell this already, and a run should know early
MOST_ONE_TEXT = 0.5  # of sets; a good student of short answers repeats itself in a quarter of them
MOST_CUT = 0.5  # of responses
DISPLACEMENT = 0.1  # nats a token
VANISHED_GRADIENT = 1e-8
STUDENT_ENTROPY, TEACHER_ENTROPY = "token_entropy/student", "token_entropy/teacher"
LOST_ENTROPY = 0.5  # of the first window's; a student of dckd may become as certain as its teacher
PLATEAU = 0.99 * log(2)
FLAT, AGREE = "the teacher's preference is flat", "student and teacher agree already"
WEIGHTS = {"pad": "beta_student", "dckd": "chosen_weight and rejected_weight", "adpa": "gamma"}  # of the signal


class SignalMonitor:
    """Judges every step's metrics; each warning names the problem, its meaning and the remedy.

    Invariants:
        - Each kind of warning is given once.
        - A judgement needs a full window, so one odd batch raises no alarm; gradient norms are judged alone,
          choice at chance within the first steps, and whether the loss moves over all of them.

    Args:
        loss: name of the loss in ``losses.LOSSES``; only ``ppd`` has a ceiling to be stuck at.
        method: that trains the student; each has remedies of its own.
        window: number of steps that a judgement averages over.

    """

    def __init__(self, loss: str = "ppd", method: str = "pad", window: int = 20):
        self._bounded = (loss, method) == ("ppd", "pad")
        self._method = method
        self._window = window
        self._recent: dict[str, deque[float]] = {}
        self._first: dict[str, float] = {}
        self._said: set[str] = set()
        self._stillness = Stillness(FLAT if method == "pad" else AGREE)
        self._choices: deque[tuple[float, float]] = deque(maxlen=CHANCE_STEPS)

    def update(
        self, metrics: Mapping[str, float], loss: float | None = None, gradient_norm: float | None = None
    ) -> list[str]:
        """Take one step's metrics, loss and gradient norm; return the warnings that are new.

        ``metrics`` may have the ``learning_rate``.
        """
        return list(self.judge(metrics, loss, gradient_norm).values())

    def judge(
        self, metrics: Mapping[str, float], loss: float | None = None, gradient_norm: float | None = None
    ) -> dict[str, str]:
        """As ``update``; each new warning by its kind."""
        means = self._means({**metrics, **({} if loss is None else {"loss": loss})})
        found = {
            **_teacher_warnings(means),
            **_sample_warnings(means, self._method),
            **_gradient_warnings(gradient_norm, self._method),
            **self._chance_warning(metrics),
            **self._displacement_warning(means),
            **self._stillness.update(loss, metrics),
            **self._entropy_warning(means),
        }
        if plateau := self._plateau_warning(means):  # says why such a loss is still
            found = {kind: message for kind, message in found.items() if kind != "still"} | plateau
        new = {kind: message for kind, message in found.items() if kind not in self._said}
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

    def _entropy_warning(self, means: Mapping[str, float]) -> dict[str, str]:
        first, now, teacher = self._first.get(STUDENT_ENTROPY), means.get(STUDENT_ENTROPY), means.get(TEACHER_ENTROPY)
        if first is None or now is None or now >= LOST_ENTROPY * first:
            return {}
        fell = f"The student's entropy has fallen from {first:.3f} to {now:.3f} nats a token"
        if self._method == "adpa":
            why = "it collapses to its likeliest tokens, as the advantage alone asks it to"
            return {"entropy": f"{fell}: {why}. Raise nll_weight, or lower gamma or the learning rate."}
        if teacher is None or now >= LOST_ENTROPY * teacher:
            return {}
        why = f"the teacher's is {teacher:.3f}: it collapses to the chosen answers, as their likelihood alone asks"
        return {"entropy": f"{fell}, and {why}. Raise {WEIGHTS['dckd']}, or lower nll_weight or the learning rate."}

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


def _sample_warnings(means: Mapping[str, float], method: str) -> dict[str, str]:
    warnings: dict[str, str] = {}
    if (share := means.get("share/one_text", 0.0)) > MOST_ONE_TEXT:
        warnings["one text"] = (
            f"In {share:.0%} of sets all responses are the same text: they teach nothing, and agreement on the others"
            " tells little. If the share grew during the run, the student has collapsed: start again with a lower"
            " learning_rate. If it was so from the start, raise temperature."
        )
    if (share := means.get("share/cut", 0.0)) > MOST_CUT:
        beginnings = "the teacher judges beginnings, and length tells nothing"
        what = beginnings if method == "pad" else "the student learns from beginnings, and not how a response ends"
        remedy = "Give whole answers" if method == "dckd" else "Raise max_response_tokens"
        warnings["cut"] = f"{share:.0%} of responses are cut at their longest length, so {what}. {remedy}."
    return warnings


def _gradient_warnings(gradient_norm: float | None, method: str) -> dict[str, str]:
    if gradient_norm is None:
        return {}
    if not isfinite(gradient_norm):
        return {
            "gradient not finite": (
                f"The gradient norm is {gradient_norm}: this update is spoilt, and the weights with it unless it is"
                f" skipped. Lower the learning rate or {WEIGHTS[method]}, and keep max_grad_norm set."
            )
        }
    if gradient_norm < VANISHED_GRADIENT:
        why, look = "the signal is flat or saturated", "both entropies, then change beta_teacher or beta_student"
        if method != "pad":
            why, look = AGREE, f"the curves of kl, then raise nll_weight, or {WEIGHTS[method]}"
        return {
            "gradient vanished": (
                f"The gradient norm is {gradient_norm:.1e}: the student learns nothing, because {why}, or because no"
                f" weight is trainable. Look at {look}."
            )
        }
    return {}


# pyright: standard
