"""``/v1/selection`` and ``/v1/score`` of a teacher behind an API: questions in words, by either estimator."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum, log
from typing import cast

from pad_teacher.engines.queries import Answer, ChatQuestion, FloatArray
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.black_box.choices import BoundedChoice, of_one_text, reply_of
from pad_teacher.scoring.black_box.estimates import from_letters
from pad_teacher.scoring.black_box.teacher import BlackBoxTeacher, ask
from pad_teacher.scoring.black_box.votes import VotedSet, plan_votes
from pad_teacher.scoring.plan import Plan, PlanBudget, usage
from pad_teacher.scoring.questions import Choice, asked_first, combine, question_orders
from pad_teacher.scoring.selection import (
    NOTHING,
    Asked,
    AskedSet,
    LogProbs,
    distinct_options,
    plan_of_questions,
    refuse_by_count,
)
from pad_wire import ResponseSet, ScoreReply, ScoreRequest, SelectionReply, SelectionRequest, Usage


def plan_score(teacher: BlackBoxTeacher, request: ScoreRequest, budget: PlanBudget) -> Steps[Plan]:
    """Plan ``/v1/score`` with ``alpha`` 1, at which the reward is the choice alone.

    Raises:
        Refusal: ``unsupported`` if a likelihood is asked for, and as ``plan_selection``.
    """
    if request.alpha != 1:
        message = "this teacher is behind an API and only chooses: give alpha 1, at which no likelihood is needed"
        raise Refusal("unsupported", message, where="alpha")
    for name in ("per_token", "token_texts", "unconditional"):
        if getattr(request, name):
            raise Refusal("unsupported", "this teacher is behind an API and tells no likelihood", where=name)
    return (yield from plan_selection(teacher, request, budget))


def plan_selection(teacher: BlackBoxTeacher, request: SelectionRequest, budget: PlanBudget) -> Steps[Plan]:
    """Plan ``/v1/selection``.

    Raises:
        Refusal: ``unsupported`` for an option that this teacher cannot follow; ``invalid_request`` or
            ``too_many_options`` for a set with too few or too many responses; ``too_long`` if the request could never
            be queued.
    """
    _refuse_unsupported(teacher, request)
    if teacher.estimator == "votes":
        return (yield from _plan_votes(teacher, request, budget))
    asked: list[AskedLetters] = []
    for index, item in enumerate(request.sets):
        asked.append(_asked_letters(teacher, item, index, request, budget))
        yield

    def reply(_: Sequence[Answer], choices: Sequence[Choice], counted: Usage) -> Steps[SelectionReply | ScoreReply]:
        bounded = cast(Sequence[BoundedChoice], choices)
        return (yield from reply_of(teacher, request, asked, bounded, counted))

    return plan_of_questions(list[AskedSet](asked), request.tolerance, usage(), reply)


def _refuse_unsupported(teacher: BlackBoxTeacher, request: SelectionRequest) -> None:
    if request.truncate:
        message = "this teacher is behind an API and its tokens are not known: send responses that fit its context"
        raise Refusal("unsupported", message, where="truncate")
    if teacher.estimator == "votes" and request.form == "pairwise":
        message = "this teacher votes, and only on all responses at once: ask listwise"
        raise Refusal("unsupported", message, where="form")
    if teacher.estimator == "votes" and request.per_order:
        raise Refusal("unsupported", "this teacher votes: its votes count in all orders together", where="per_order")


def _plan_votes(teacher: BlackBoxTeacher, request: SelectionRequest, budget: PlanBudget) -> Steps[Plan]:
    sets: list[VotedSet] = []
    for index, item in enumerate(request.sets):
        shown, options, orders = _shown(teacher, item, index, request)
        questions = [ask(teacher.question, item.prompt, [options[i] for i in order], vote=0) for order in orders]
        _count(questions * teacher.rule.rounds(max(1, len(orders))), budget, shown.where)
        sets.append(VotedSet(shown, orders, questions))
        yield

    def reply(choices: Sequence[BoundedChoice], counted: Usage) -> Steps[SelectionReply | ScoreReply]:
        return (yield from reply_of(teacher, request, [item.shown for item in sets], choices, counted))

    return plan_votes(sets, teacher.rule, reply)


@dataclass(frozen=True, slots=True)
class AskedLetters(AskedSet):
    """The questions about one set, each of which is answered by the probabilities of letters."""

    def read(self, asked: Asked, results: Iterator[Answer]) -> LogProbs:
        """See ``AskedSet``; with what the API did not return."""
        return [cast(list[FloatArray], next(results))[0].tolist() for _ in asked.queries]

    def choice(self, log_probs: LogProbs) -> BoundedChoice:
        """See ``AskedSet``.

        Raises:
            Refusal: ``engine_failed`` if one of the answers may begin with no letter.
        """
        n = len(self.truncated)
        orders = [*self.first.orders, *self.others.orders][: len(log_probs)]
        if not orders:
            return of_one_text(votes=False)
        read = [from_letters(row) for row in log_probs]
        known = [each for each in read if each is not None]
        if len(known) < len(read):
            message = "the upstream returned no option's letter among the likeliest first tokens"
            raise Refusal("engine_failed", message, where=self.where, retryable=False)
        choice = combine(n, orders, [[log(value) for value in each.values] for each in known])
        intervals = [
            tuple(
                _mean(bounds[order.index(i)] for order, bounds in zip(orders, side, strict=True) if i in order)
                for side in ([each.lowest for each in known], [each.highest for each in known])
            )
            for i in range(n)
        ]
        return BoundedChoice(
            choice.selection_probabilities,
            _mean(each.label_mass for each in known),
            choice.order_disagreement,
            choice.orders_asked,
            choice.answers,
            cast(list[tuple[float, float]], intervals),
            unreturned_mass=_mean(each.unreturned for each in known),
        )


def _asked_letters(
    teacher: BlackBoxTeacher, item: ResponseSet, index: int, request: SelectionRequest, budget: PlanBudget
) -> AskedLetters:
    shown, options, orders = _shown(teacher, item, index, request)
    first = asked_first(len(options), request.form, request.orders) if orders else 0
    parts: list[Asked] = []
    for some in (orders[:first], orders[first:]):
        questions = [ask(teacher.question, item.prompt, [options[i] for i in order]) for order in some]
        _count(questions, budget, shown.where)
        parts.append(Asked(some, sum(each.cost for each in questions), questions))
    return AskedLetters(shown.id, shown.where, shown.option, shown.truncated, *parts)


def _shown(
    teacher: BlackBoxTeacher, item: ResponseSet, index: int, request: SelectionRequest
) -> tuple[AskedSet, list[str], list[tuple[int, ...]]]:
    """A set without its questions, its options, and the orders to ask in; none for a set of one text."""
    where = f"sets[{index}]"
    refuse_by_count(len(item.responses), request, teacher.max_options, f"{where}.responses")
    options, option = distinct_options(item, request)
    shown = AskedSet(
        item.id if item.id is not None else str(index), where, option, [False] * len(options), NOTHING, NOTHING
    )
    orders = question_orders(len(options), request.form, request.orders) if len(options) > 1 else []
    return shown, options, orders


def _count(questions: Sequence[ChatQuestion], budget: PlanBudget, where: str) -> None:
    tokens = sum(each.cost for each in questions)
    budget.spend(tokens, where)
    budget.charge(tokens, where)


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return fsum(found) / len(found)
