"""``/v1/selection``: from a request's sets to multiple-choice questions, and from their answers to the reply."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from pad_teacher.engines.queries import Answer, FloatArray, Questions, shared_tokens
from pad_teacher.errors import Refusal
from pad_teacher.scoring.likelihood import template_at
from pad_teacher.scoring.plan import Plan, PlanBudget, finite_logprobs, usage
from pad_teacher.scoring.questions import Choice, TooManyOrders, combine, question_orders
from pad_teacher.scoring.teacher import Teacher
from pad_wire import ResponseSet, SelectionReply, SelectionRequest
from pad_wire.chat import as_text
from pad_wire.scoring import Selection, SelectionSet


@dataclass(frozen=True, slots=True)
class AskedSet:
    """The questions about one set; ``orders`` are the response indices of each, in the order shown."""

    id: str
    where: str
    n: int
    orders: list[tuple[int, ...]]
    tokens: int
    queries: list[Questions]
    truncated: list[bool]

    def choice(self, results: Iterator[Answer]) -> Choice:
        """The teacher's choice; takes the answers to the set's queries from ``results``."""
        answers = [array for _ in self.queries for array in cast(list[FloatArray], next(results))]
        log_probs = [finite_logprobs(array, self.where).tolist() for array in answers]
        return combine(self.n, self.orders, log_probs)


def plan_selection(teacher: Teacher, request: SelectionRequest, budget: PlanBudget) -> Plan:
    """Plan ``/v1/selection``.

    Raises:
        Refusal: as ``ask``.
    """
    asked = ask(teacher, request, budget)
    counted = usage(question=question_tokens(asked))

    def reply(results: Sequence[Answer]) -> SelectionReply:
        rest = iter(results)
        sets = [_selection_set(item, item.choice(rest)) for item in asked]
        return SelectionReply(teacher=teacher.id, sets=sets, usage=counted)

    return Plan([query for item in asked for query in item.queries], counted, reply, [asked])


def ask(teacher: Teacher, request: SelectionRequest, budget: PlanBudget) -> list[AskedSet]:
    """Render and tokenise the questions about each set.

    Raises:
        Refusal: if a set has too few or too many responses for them, or a question does not fit the context.
    """
    return [_ask_set(teacher, item, index, request, budget) for index, item in enumerate(request.sets)]


def question_tokens(asked: Sequence[AskedSet]) -> int:
    """Tokens of all questions."""
    return sum(item.tokens for item in asked)


def _ask_set(
    teacher: Teacher, item: ResponseSet, index: int, request: SelectionRequest, budget: PlanBudget
) -> AskedSet:
    where, n, letters = f"sets[{index}]", len(item.responses), teacher.letter_ids
    shown = n if request.form == "listwise" else 2
    if n < 2:
        raise Refusal("invalid_request", "a choice needs two responses or more", where=f"{where}.responses")
    if shown > len(letters):
        message = f"{n} options, and this teacher has letters for {len(letters)}; ask pairwise or split the set"
        raise Refusal("too_many_options", message, where=f"{where}.responses")
    try:
        orders = question_orders(n, request.form, request.orders)
    except TooManyOrders as error:
        raise Refusal("too_many_options", str(error), where=f"{where}.responses") from error
    writer = _QuestionWriter(teacher, as_text(item.prompt), where)
    texts = [response.text for response in item.responses]
    options = writer.cut_to_fit(texts, shown) if request.truncate else texts
    asked: list[list[int]] = []
    for order in orders:
        asked.append(writer.ids([options[i] for i in order]))
        budget.spend(len(asked[-1]), where)  # in full: shared beginnings are rendered and tokenised again
    queries = list(_split(asked, letters[:shown], budget.batch_tokens))
    truncated = [option != text for option, text in zip(options, texts, strict=True)]
    tokens = sum(map(len, asked))
    return AskedSet(item.id if item.id is not None else str(index), where, n, orders, tokens, queries, truncated)


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


@dataclass(frozen=True, slots=True)
class _QuestionWriter:
    """Renders and tokenises the question about one prompt, for any options."""

    teacher: Teacher
    request: str
    where: str

    def ids(self, options: Sequence[str]) -> list[int]:
        """Token ids of the question.

        Raises:
            Refusal: ``too_long`` if it does not fit the context, ``template_refused``.
        """
        ids = self._ids(options)
        limit = self.teacher.engine.max_context_tokens
        if len(ids) > limit:
            message = f"the question about this set has {len(ids)} tokens; the teacher's context holds {limit}"
            raise Refusal("too_long", message, where=self.where)
        return ids

    def cut_to_fit(self, texts: Sequence[str], shown: int) -> list[str]:
        """The texts, each cut to the largest number of tokens with which every question fits the context."""
        limit = self.teacher.engine.max_context_tokens
        ids = self.teacher.encoder.response_ids(texts, [False] * len(texts))
        decode = self.teacher.encoder.decode

        def cut(tokens: int) -> list[str]:
            # A cut within a character leaves its first bytes, which decode to a replacement character.
            return [
                text if len(of_text) <= tokens else decode(of_text[:tokens]).rstrip("\N{REPLACEMENT CHARACTER}")
                for text, of_text in zip(texts, ids, strict=True)
            ]

        def fits(tokens: int) -> bool:
            options = sorted(cut(tokens), key=lambda option: -len(self._response_ids(option)))[:shown]
            # Tokens may merge or split at the border of an option: the margin is larger than was ever seen.
            return len(self._ids(options)) + shown <= limit

        low, high = 0, min(limit, max(len(of_text) for of_text in ids))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return cut(low)

    def _response_ids(self, text: str) -> list[int]:
        return self.teacher.encoder.response_ids([text], [False])[0]

    def _ids(self, options: Sequence[str]) -> list[int]:
        with template_at(self.where):  # the prompt cache is not used: a question is rarely asked twice
            return self.teacher.question_ids(self.request, options)


def _selection_set(item: AskedSet, choice: Choice) -> SelectionSet:
    responses = [
        Selection(selection_probability=probability, truncated=truncated or None)
        for probability, truncated in zip(choice.selection_probabilities, item.truncated, strict=True)
    ]
    return SelectionSet(
        id=item.id,
        responses=responses,
        label_mass=choice.label_mass,
        orders_asked=len(item.orders),
        order_disagreement=choice.order_disagreement,
    )
