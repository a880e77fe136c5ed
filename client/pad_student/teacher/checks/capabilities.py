"""What a teacher can tell, compared with what a run needs: before the first response is sampled."""

from typing import Protocol, runtime_checkable

from pad_student.teacher.checks.replies import tightest_limits
from pad_student.teacher.errors import TeacherRefused
from pad_student.teacher.options import ScoreOptions
from pad_wire import ModelCard, TeacherId


@runtime_checkable
class Described(Protocol):
    """A teacher that describes itself."""

    def model(self) -> ModelCard:
        """Its model card."""
        ...


def checked_model(teacher: Described, options: ScoreOptions) -> ModelCard:
    """The teacher's card, once it is known that it can give the numbers that ``options`` ask for.

    Raises:
        TeacherRefused: as ``refuse_what_it_cannot_tell``.
        TeacherError: if it does not say.
    """
    card = teacher.model()
    refuse_what_it_cannot_tell(card, options)
    return card


def card_of_both(teacher: ModelCard, reference: ModelCard) -> ModelCard:
    """The card of a teacher whose reference is another service, as if one service held both.

    Raises:
        TeacherRefused: if the reference cannot be asked at the teacher's ids.
    """
    if reference.tokenizer is None:
        raise TeacherRefused(
            f"the reference {reference.id} tells no log-probabilities at given tokens; serve it by pad-teacher serve",
            "unsupported",
        )
    if reference.tokenizer != teacher.tokenizer:
        raise TeacherRefused(
            f"the reference {reference.id} has another tokenizer ({reference.tokenizer[:8]}) than the teacher"
            f" {teacher.id} ({(teacher.tokenizer or 'unknown')[:8]}); serve the model that it was aligned from",
            "unsupported",
        )
    limits = tightest_limits([teacher.limits, reference.limits])
    known = TeacherId(model=reference.id, fingerprint=reference.fingerprint)
    return teacher.model_copy(update={"limits": limits, "reference": known})


def tells_likelihood(card: ModelCard) -> bool:
    """Whether the teacher tells log-likelihoods; an older service does, and does not say so."""
    return card.capabilities is None or "likelihood" in card.capabilities


def refuse_what_it_cannot_tell(card: ModelCard, options: ScoreOptions) -> None:
    """Refuse a teacher that cannot give the numbers that ``options`` ask for.

    Raises:
        TeacherRefused: naming the setting to change.
    """
    if tells_likelihood(card):
        return
    only = f"the teacher {card.id} is behind an API and only chooses"
    alpha = "alpha is not given" if options.alpha is None else f"alpha is {options.alpha:g}"
    for unfit, why, setting in (
        (
            options.token_top is not None,
            "token-level methods need its log-probabilities; set method to pad",
            "method",
        ),
        (options.alpha != 1, f"{alpha}, which needs its log-likelihoods; set alpha to 1", "alpha"),
        (options.unconditional, "relative normalization needs its log-likelihoods; leave it out", "normalization"),
        (options.truncate, "it cuts no response; leave truncate out", "truncate"),
        (
            options.form == "pairwise" and card.estimator == "votes",
            "it votes on all responses at once; set form to listwise",
            "form",
        ),
    ):
        if unfit:
            raise TeacherRefused(f"{only}: {why}", "unsupported", setting)
