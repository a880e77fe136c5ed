"""``/v1/selection``: from a request's sets to multiple-choice questions, and from their answers to the reply."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pad_teacher.engines.queries import Answer, AnyQuery, FloatArray, Questions, shared_tokens
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.long_texts import is_too_long
from pad_teacher.scoring.plan import Plan, PlanBudget, finite_logprobs, usage
from pad_teacher.scoring.question_writer import BORDER_TOKENS, QuestionWriter
from pad_teacher.scoring.questions import (
    NO_CHOICE,
    Choice,
    TooManyOrders,
    asked_first,
    combine,
    number_of_orders,
    question_orders,
)
from pad_teacher.scoring.teacher import Teacher
from pad_wire import ResponseSet, SelectionReply, SelectionRequest, Usage
from pad_wire.chat import as_text
from pad_wire.scoring import OrderAnswer, Selection, SelectionSet
from pad_wire.text import WireModel

LogProbs = list[list[float]]  # of the labels, for each order


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions about one set; ``orders`` are the options of each, in the order shown."""

    orders: list[tuple[int, ...]]
    tokens: int
    queries: Sequence[AnyQuery]


NOTHING = Asked([], 0, [])


@dataclass(frozen=True, slots=True)
class AskedSet:
    """The questions about one set: those asked ``first``, and those asked only if the answers to these disagree.

    ``option`` is the number of each response's text among the options, which copies of one text share; ``truncated``
    tells of each option whether it was cut to fit.
    """

    id: str
    where: str
    option: list[int]
    truncated: list[bool]
    first: Asked
    others: Asked

    @property
    def is_of_one_text(self) -> bool:
        """Whether there is nothing to choose."""
        return not self.first.orders

    def read(self, asked: Asked, results: Iterator[Answer]) -> LogProbs:
        """The answers to some of the questions, taken from ``results``."""
        answers = [array for _ in asked.queries for array in cast(list[FloatArray], next(results))]
        return [finite_logprobs(array, self.where).tolist() for array in answers]

    def choice(self, log_probs: LogProbs) -> Choice:
        """The teacher's choice by the answers so far."""
        orders = [*self.first.orders, *self.others.orders][: len(log_probs)]
        return combine(len(self.truncated), orders, log_probs) if orders else NO_CHOICE

    def is_settled(self, log_probs: LogProbs, tolerance: float) -> bool:
        """Whether the answers to the first questions agree, or there are no others."""
        return not self.others.orders or (self.choice(log_probs).order_disagreement or 0) <= tolerance

    def of_responses(self, choice: Choice) -> list[tuple[float, bool]]:
        """Of each response: the whole probability of its text, and whether the option was cut."""
        return [(choice.selection_probabilities[i], self.truncated[i]) for i in self.option]

    def fields(self, choice: Choice, *, per_order: bool) -> dict[str, Any]:
        """What a reply says of the set as a whole."""
        return {
            "id": self.id,
            "label_mass": choice.label_mass,
            "orders_asked": choice.orders_asked,
            "order_disagreement": choice.order_disagreement,
            "per_order": self._per_order(choice) if per_order else None,
        }

    def _per_order(self, choice: Choice) -> list[OrderAnswer]:
        """The answer to each question, with the responses that have each text shown."""
        places: list[list[int]] = [[] for _ in self.truncated]
        for response, i in enumerate(self.option):
            places[i].append(response)
        return [
            OrderAnswer(
                order=[places[i] for i in each.order], probabilities=each.probabilities, label_mass=each.label_mass
            )
            for each in choice.answers
        ]


def plan_selection(teacher: Teacher, request: SelectionRequest, budget: PlanBudget) -> Steps[Plan]:
    """Plan ``/v1/selection``.

    Raises:
        Refusal: as ``refuse_too_many_questions`` and ``ask``.
    """
    refuse_too_many_questions(teacher, request, budget)
    asked = yield from ask(teacher, request, budget)

    def reply(_: Sequence[Answer], choices: Sequence[Choice], counted: Usage) -> Steps[SelectionReply]:
        sets: list[SelectionSet] = []
        for item, choice in zip(asked, choices, strict=True):
            sets.append(_selection_set(item, choice, per_order=request.per_order))
            yield
        return SelectionReply(teacher=teacher.id, sets=sets, usage=counted)

    return plan_of_questions(asked, request.tolerance, usage(), reply)


def plan_of_questions(
    asked: list[AskedSet],
    tolerance: float,
    others: Usage,
    reply: Callable[[Sequence[Answer], Sequence[Choice], Usage], Steps[WireModel]],
    before: Sequence[AnyQuery] = (),
    held: Sequence[list[Any]] = (),
) -> Plan:
    """The plan of a request with questions; where their first orders disagree, it asks in all.

    Args:
        asked: the questions.
        tolerance: total variation between orders up to which they agree.
        others: usage of all that is not a question.
        reply: makes the reply from the answers to ``before``, the choices and the whole usage.
        before: queries that come before the questions.
        held: lists that ``reply`` reads, besides ``asked``.
    """

    def counted(question_tokens: int) -> Usage:
        one_text = sum(item.is_of_one_text for item in asked)
        return usage(
            prompt=others.prompt_tokens, response=others.response_tokens, question=question_tokens, one_text=one_text
        )

    def ended(results: Sequence[Answer]) -> Steps[WireModel]:
        answers, log_probs = yield from _heard(asked, len(before), results)
        found = yield from _choices(asked, log_probs)
        return (yield from reply(answers, found, of_first))

    def further(results: Sequence[Answer]) -> Steps[Plan]:
        answers, log_probs = yield from _heard(asked, len(before), results)
        unsettled: list[int] = []
        for k, (item, each) in enumerate(zip(asked, log_probs, strict=True)):
            if not item.is_settled(each, tolerance):
                unsettled.append(k)
            yield
        whole = counted(of_first.question_tokens + sum(asked[k].others.tokens for k in unsettled))

        def ended(more: Sequence[Answer]) -> Steps[WireModel]:
            rest = iter(more)
            for k in unsettled:
                log_probs[k] += asked[k].read(asked[k].others, rest)
                yield
            found = yield from _choices(asked, log_probs)
            return (yield from reply(answers, found, whole))

        return Plan([query for k in unsettled for query in asked[k].others.queries], whole, ended, [log_probs])

    of_first = counted(sum(item.first.tokens for item in asked))
    queries = [*before, *(query for item in asked for query in item.first.queries)]
    may_ask: list[AnyQuery] = [query for item in asked for query in item.others.queries]
    return Plan(queries, of_first, ended, [asked, *held], may_ask, further if may_ask else None)


def _heard(
    asked: Sequence[AskedSet], before: int, results: Sequence[Answer]
) -> Steps[tuple[list[Answer], list[LogProbs]]]:
    """The answers to the queries ``before`` the questions, and to the first questions about each set."""
    rest = iter(results)
    answers, log_probs = [next(rest) for _ in range(before)], list[LogProbs]()
    for item in asked:
        log_probs.append(item.read(item.first, rest))
        yield
    return answers, log_probs


def _choices(asked: Sequence[AskedSet], log_probs: Sequence[LogProbs]) -> Steps[list[Choice]]:
    found: list[Choice] = []
    for item, each in zip(asked, log_probs, strict=True):
        found.append(item.choice(each))
        yield
    return found


def refuse_too_many_questions(teacher: Teacher, request: SelectionRequest, budget: PlanBudget) -> None:
    """Refuse a request by the number of its questions and the tokens of their wording, before any is rendered.

    Raises:
        Refusal: ``too_long`` if the request could never be queued; ``invalid_request`` or ``too_many_options`` if a
            set has too few or too many responses.
    """
    known: dict[int, int] = {}
    tokens = 0
    for index, item in enumerate(request.sets):
        where = f"sets[{index}]"
        shown, questions = _questions_about(teacher, item, request, f"{where}.responses")
        if shown not in known:
            # Texts may join with the wording's tokens at their two ends.
            known[shown] = max(1, len(teacher.question_ids("?", ["?"] * shown)) - BORDER_TOKENS * (shown + 1))
        tokens += known[shown] * questions
        budget.refuse_if_over(tokens, where)


def _questions_about(teacher: Teacher, item: ResponseSet, request: SelectionRequest, where: str) -> tuple[int, int]:
    """The options that a question about one set shows, and how many questions there are.

    Raises:
        Refusal: ``invalid_request`` or ``too_many_options``.
    """
    refuse_by_count(len(item.responses), request, len(teacher.letter_ids), where)
    n = len(distinct_options(item, request)[0])
    if n == 1:
        return 2, 0
    return (n if request.form == "listwise" else 2), number_of_orders(n, request.form, request.orders)


def refuse_by_count(n: int, request: SelectionRequest, letters: int, where: str) -> None:
    """Refuse a set by its number of responses, copies too: whether a run's sets are taken does not hang on copies.

    Raises:
        Refusal: ``invalid_request`` or ``too_many_options``.
    """
    if n < 2:
        raise Refusal("invalid_request", "a choice needs two responses or more", where=where)
    if request.form == "listwise" and n > letters:
        message = f"{n} options, and this teacher has letters for {letters}; ask pairwise or split the set"
        raise Refusal("too_many_options", message, where=where)
    try:
        number_of_orders(n, request.form, request.orders)
    except TooManyOrders as error:
        raise Refusal("too_many_options", str(error), where=where) from error


def ask(teacher: Teacher, request: SelectionRequest, budget: PlanBudget) -> Steps[list[AskedSet]]:
    """Render and tokenise the questions about each set.

    Raises:
        Refusal: if a question does not fit the context, or the template refuses it.
    """
    asked: list[AskedSet] = []
    for index, item in enumerate(request.sets):
        asked.append((yield from _ask_set(teacher, item, index, request, budget)))
    return asked


def distinct_options(item: ResponseSet, request: SelectionRequest) -> tuple[list[str], list[int]]:
    """The texts to choose among, and the number of each response's text."""
    texts = [response.text for response in item.responses]
    if not request.distinct:
        return texts, list(range(len(texts)))
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return list(number), [number[text] for text in texts]


def _ask_set(
    teacher: Teacher, item: ResponseSet, index: int, request: SelectionRequest, budget: PlanBudget
) -> Steps[AskedSet]:
    where, letters = f"sets[{index}]", teacher.letter_ids
    name = item.id if item.id is not None else str(index)
    texts, option = distinct_options(item, request)
    if len(texts) == 1:
        yield
        return AskedSet(name, where, option, [False], NOTHING, NOTHING)
    shown = len(texts) if request.form == "listwise" else 2
    orders = question_orders(len(texts), request.form, request.orders)
    limit = teacher.engine.max_context_tokens
    largest = [] if request.truncate else sorted(texts, key=len)[-shown:]
    if (yield from is_too_long(teacher, item.prompt, limit, largest)):
        message = f"the question about this set has far more tokens than the teacher's context of {limit}"
        raise Refusal("too_long", message, where=where)
    writer = QuestionWriter(teacher, as_text(item.prompt), where)
    options = (yield from writer.cut_to_fit(texts, shown)) if request.truncate else texts
    asked: list[list[int]] = []
    for order in orders:
        asked.append(writer.ids([options[i] for i in order]))
        budget.spend(len(asked[-1]), where)  # in full: shared beginnings are rendered and tokenised again
        yield
    truncated = [option != text for option, text in zip(options, texts, strict=True)]
    first = asked_first(len(texts), request.form, request.orders)
    parts: list[Asked] = []
    for shown_first, ids in ((orders[:first], asked[:first]), (orders[first:], asked[first:])):
        queries = list(_split(ids, letters[:shown], budget.batch_tokens)) if ids else []
        budget.charge(sum(query.cost for query in queries), where)
        parts.append(Asked(shown_first, sum(map(len, ids)), queries))
    return AskedSet(name, where, option, truncated, *parts)


def _split(asked: Sequence[list[int]], label_ids: list[int], most: int) -> Iterator[Questions]:
    """The questions in few queries of at most ``most`` tokens."""
    part: list[list[int]] = []
    cost = 0
    for ids in asked:
        more = len(ids) - shared_tokens(ids, part[-1] if part else [])
        if part and cost + more > most:
            yield Questions(part, label_ids)
            part, cost, more = [], 0, len(ids)
        part.append(ids)
        cost += more
    yield Questions(part, label_ids)


def _selection_set(item: AskedSet, choice: Choice, *, per_order: bool) -> SelectionSet:
    responses = [
        Selection(selection_probability=probability, truncated=truncated or None)
        for probability, truncated in item.of_responses(choice)
    ]
    return SelectionSet(**item.fields(choice, per_order=per_order), responses=responses)
