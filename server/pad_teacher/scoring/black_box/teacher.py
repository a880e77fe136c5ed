"""The teacher behind an API: its engine, the question's form, and how its choice becomes a probability."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pad_teacher.engines.base import Runtime
from pad_teacher.engines.queries import ChatQuestion
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.black_box.estimates import VoteRule
from pad_teacher.scoring.plan import Plan
from pad_wire import Prompt, TeacherId
from pad_wire.chat import as_text
from pad_wire.question import QuestionForm
from pad_wire.scoring import LETTERS
from pad_wire.service import Estimator


@dataclass(frozen=True, slots=True)
class BlackBoxTeacher:
    """A model whose tokens nobody can see.

    ``top`` likeliest tokens are returned, if any are. ``plans`` has the function that plans the requests of each
    route that it can answer.
    """

    id: TeacherId
    engine: Runtime
    question: QuestionForm
    estimator: Estimator
    top: int
    rule: VoteRule
    plans: Mapping[str, Callable[..., Steps[Plan]]]
    golden_difference_nats: None = None

    @property
    def max_options(self) -> int:
        """The most options of one question: the letters of more can never all be returned."""
        return self.top if self.estimator == "label_probabilities" else len(LETTERS)


def ask(form: QuestionForm, prompt: Prompt, options: list[str], vote: int | None = None) -> ChatQuestion:
    """The question which of ``options`` answers ``prompt`` best; with the number of a ``vote``, to be sampled."""
    messages = form.messages(as_text(prompt), options)
    turns = tuple((message.role, message.content) for message in messages)
    return ChatQuestion(turns, form.answer, len(options), vote)


def fingerprint(engine: Runtime, form: QuestionForm, estimator: Estimator, rule: VoteRule) -> str:
    """A digest of all that decides a score, as far as it can be known."""
    votes = f"{rule.most} {rule.width}" if estimator == "votes" else ""
    digest = hashlib.sha256()
    for part in (engine.digest(), form.model_dump_json(), estimator, votes):
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:32]
