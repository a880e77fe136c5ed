"""Votes of a teacher behind an API: asked in rounds, in each of which every order of the options gets one vote."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from pad_teacher.engines.queries import Answer, ChatQuestion, FloatArray
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.black_box.choices import BoundedChoice, of_one_text
from pad_teacher.scoring.black_box.estimates import VoteRule, posterior
from pad_teacher.scoring.plan import Plan, usage
from pad_teacher.scoring.selection import AskedSet
from pad_wire import Usage
from pad_wire.text import WireModel

Reply = Callable[[Sequence[BoundedChoice], Usage], Steps[WireModel]]


@dataclass(slots=True)
class VotedSet:
    """The votes about one set.

    - After ``rounds`` rounds each order has been asked ``rounds`` times.
    - ``counts`` are the votes of each option, in all orders together; ``invalid`` those that named no letter.
    """

    shown: AskedSet
    orders: list[tuple[int, ...]]
    questions: list[ChatQuestion]
    rounds: int = 0
    counts: list[int] = field(init=False)
    invalid: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.shown.truncated)

    @property
    def cost(self) -> int:
        """Tokens of one round."""
        return sum(each.cost for each in self.questions)

    def queries(self, first: int, last: int) -> list[ChatQuestion]:
        """The questions of the rounds from ``first`` up to ``last``, without that."""
        return [replace(each, vote=number) for number in range(first, last) for each in self.questions]

    def hear(self, rounds: int, answers: Iterator[Answer]) -> None:
        """Count the votes of the next ``rounds``."""
        for _ in range(rounds):
            for order in self.orders:
                letters = cast(list[FloatArray], next(answers))[0].tolist()
                named = [i for i, letter in zip(order, letters, strict=True) if letter]
                for i in named:
                    self.counts[i] += 1
                self.invalid += not named
        self.rounds += rounds

    def next_rounds(self, rule: VoteRule) -> int:
        """How many rounds to ask before it is looked at again; 0 once the votes are enough."""
        if not self.orders:
            return 0
        if not self.rounds:
            return rule.first_rounds(len(self.counts), len(self.orders))
        return int(self.rounds < rule.rounds(len(self.orders)) and not rule.is_enough(tuple(self.counts)))

    def choice(self) -> BoundedChoice:
        """The choice by all votes.

        Raises:
            Refusal: ``engine_failed`` if no vote named a letter.
        """
        if not self.orders:
            return of_one_text(votes=True)
        valid = sum(self.counts)
        if not valid:
            message = f"none of {self.invalid} votes named an option's letter"
            raise Refusal("engine_failed", message, where=self.shown.where, retryable=False)
        found = posterior(tuple(self.counts))
        return BoundedChoice(
            selection_probabilities=found.mean,
            label_mass=valid / (valid + self.invalid),
            order_disagreement=None,
            orders_asked=valid + self.invalid,
            answers=[],
            intervals=list(zip(found.lowest, found.highest, strict=True)),
            log_probabilities=found.mean_log,
            votes=valid,
            invalid_votes=self.invalid,
        )


def plan_votes(sets: list[VotedSet], rule: VoteRule, reply: Reply) -> Plan:
    """The plan of a request that is answered by votes: it goes on until every set's votes are enough.

    Args:
        sets: that nobody has voted on yet.
        rule: when votes are enough.
        reply: makes the reply from the choices and the usage.
    """
    may_ask = [
        query
        for item in sets
        if item.orders
        for query in item.queries(item.next_rounds(rule), rule.rounds(len(item.orders)))
    ]
    return _stage(sets, rule, reply, may_ask)


def _stage(sets: list[VotedSet], rule: VoteRule, reply: Reply, may_ask: list[ChatQuestion]) -> Plan:
    """The next rounds of all sets that need some; without any, the reply."""
    asked = [(item, item.next_rounds(rule)) for item in sets]
    asked = [(item, rounds) for item, rounds in asked if rounds]
    queries = [query for item, rounds in asked for query in item.queries(item.rounds, item.rounds + rounds)]

    def further(results: Sequence[Answer]) -> Steps[Plan]:
        rest = iter(results)
        for item, rounds in asked:
            item.hear(rounds, rest)
            yield
        return _stage(sets, rule, reply, [])

    def ended(_: Sequence[Answer]) -> Steps[WireModel]:
        choices: list[BoundedChoice] = []
        for item in sets:
            choices.append(item.choice())
            yield
        return (yield from reply(choices, _usage(sets)))

    return Plan(queries, _usage(sets), ended, [sets], list(may_ask), further if queries else None)


def _usage(sets: Sequence[VotedSet]) -> Usage:
    question = sum(item.rounds * item.cost for item in sets)
    return usage(question=question, one_text=sum(not item.orders for item in sets))
