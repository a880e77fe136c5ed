"""The golden check of a teacher behind an API: a planted question that any teacher gets right.

It also finds how this API can be asked: whether it returns log-probabilities, and of how many tokens; whether it
continues an answer that has begun; and under which name it knows the limit of an answer's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

import numpy as np
import structlog

from pad_teacher.engines.openai.replies import NotThisWay
from pad_teacher.engines.openai.upstream import TOPS, LimitName, Upstream
from pad_teacher.errors import CannotServe, Refusal
from pad_teacher.scoring.black_box.teacher import ask
from pad_teacher.scoring.golden_check import GoldenMismatch
from pad_wire.question import QuestionForm
from pad_wire.service import Estimator

log = structlog.get_logger()

PROMPT = "count from two to five"
RIGHT, WRONG = "two three four five", "five two"
VOTES = 3  # in each of the two orders
ENOUGH = 0.5  # of the probability, or of the votes, that the right answer must have more of

# A vote asks for no likeliest tokens, so one number of them is as good as another.
ESTIMATORS: tuple[tuple[Estimator, int], ...] = (
    *(("label_probabilities", top) for top in TOPS),
    ("votes", TOPS[0]),
)


@dataclass(frozen=True, slots=True)
class Way:
    """How the upstream can be asked."""

    estimator: Estimator
    form: QuestionForm


def find_way(upstream: Upstream, forms: Sequence[QuestionForm]) -> Way:
    """The first way in which the upstream answers the planted question, and answers it right.

    Label probabilities come before votes, those of more tokens before fewer, and earlier ``forms`` before later ones.

    Raises:
        CannotServe: if the upstream cannot be asked at all.
        GoldenMismatch: if there is no such way.
    """
    reasons: list[str] = []
    names: tuple[LimitName, ...] = get_args(LimitName)
    for (estimator, top), form, name in product(ESTIMATORS, forms, names):
        upstream.top, upstream.limit_name = top, name
        try:
            right = _share_right(upstream, form, estimator)
        except NotThisWay as error:
            reasons.append(f"{_named(estimator, form)}: {error}")
            continue
        except Refusal as refusal:
            raise CannotServe(f"--upstream {upstream.address.url}: {refusal}") from None
        if right > ENOUGH:
            log.info("golden question passed", estimator=estimator, begun=bool(form.answer), share_right=right)
            return Way(estimator, form)
        reasons.append(f"{_named(estimator, form)}: the right answer has a share of {right:.2f}")
    raise GoldenMismatch(
        f"--upstream {upstream.address.url}: the model {upstream.address.model} does not pick the right answer to a"
        f" question that any teacher gets right. {'; '.join(dict.fromkeys(reasons))}. A model that thinks before it"
        " answers needs more --upstream-answer-tokens; another wording may help: --question FILE"
    )


def _share_right(upstream: Upstream, form: QuestionForm, estimator: Estimator) -> float:
    """The smaller share that the right answer has in the two orders."""
    votes = range(VOTES) if estimator == "votes" else [None]
    shares: list[float] = []
    for right, options in enumerate(([RIGHT, WRONG], [WRONG, RIGHT])):
        answers = [upstream.ask(ask(form, PROMPT, options, vote))[:2] for vote in votes]
        shares.append(float(np.mean([answer[right] for answer in answers])))
    return min(shares)


def _named(estimator: Estimator, form: QuestionForm) -> str:
    return f"{estimator.replace('_', ' ')} {'after a begun answer' if form.answer else 'asked plainly'}"
