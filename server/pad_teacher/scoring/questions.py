"""Multiple choice: the orders to ask in, and the average of the answers. The wording is ``pad_wire/question.py``.

Listwise asks one question that shows all n responses; pairwise asks about every pair. A model prefers some letters
whatever their options are. So each question is asked in several orders of the options, and the renormalised
probabilities are averaged (PAD, arXiv 2502.14272, section 3.2).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from math import comb, exp, factorial, fsum, isfinite

from pad_wire.scoring import Form, Orders

MAX_ORDERS = 120  # "all" means n! questions: 120 at n = 5, 720 at n = 6


class TooManyOrders(ValueError):
    """``orders="all"`` would ask more than ``MAX_ORDERS`` questions about one set."""


@dataclass(frozen=True, slots=True)
class OneAnswer:
    """The answer to one question: its options in the order shown, and the renormalised probability of each."""

    order: tuple[int, ...]
    probabilities: list[float]
    label_mass: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The teacher's pick as one probability a response, and two measures of whether it means anything.

    ``label_mass`` is the probability on letters at all. ``order_disagreement`` is the largest total variation between
    two orders in which the same responses were shown; None if there are no two. ``answers`` are those to each
    question, in the order asked.
    """

    selection_probabilities: list[float]
    label_mass: float | None
    order_disagreement: float | None
    orders_asked: int
    answers: list[OneAnswer]


NO_CHOICE = Choice([1.0], None, None, 0, [])  # of one text, which is picked whatever the teacher thinks of it


def number_of_orders(n: int, form: Form, orders: Orders) -> int:
    """How many questions ``question_orders`` would ask, without making them.

    Raises:
        TooManyOrders: if ``all`` would need more than ``MAX_ORDERS`` permutations.
    """
    if form == "pairwise":
        return comb(n, 2) * (1 if orders == "single" else 2)
    match orders:
        case "single":
            return 1
        case "cyclic" | "adaptive":
            return n
        case "both":
            return 2
        case "all":
            if factorial(n) > MAX_ORDERS:
                raise TooManyOrders(f"{n} responses have {factorial(n)} orders; the limit is {MAX_ORDERS}")
            return factorial(n)


def question_orders(n: int, form: Form, orders: Orders) -> list[tuple[int, ...]]:
    """The questions to ask about ``n`` responses; each is the indices of its responses in the order shown.

    ``single`` shows responses as given, ``cyclic`` all rotations, ``both`` as given and reversed, ``all`` every
    permutation, and ``adaptive`` all rotations, of which two opposite ones come first (see ``asked_first``). A pair
    has only two orders, so for ``pairwise`` all but ``single`` mean the same.

    Raises:
        TooManyOrders: if ``all`` would need more than ``MAX_ORDERS`` permutations.
    """
    if form == "pairwise":
        pairs = list(combinations(range(n), 2))
        return pairs if orders == "single" else [order for i, j in pairs for order in ((i, j), (j, i))]
    as_given = tuple(range(n))
    match orders:
        case "single":
            return [as_given]
        case "cyclic":
            return [as_given[k:] + as_given[:k] for k in range(n)]
        case "adaptive":
            opposite = (0, n // 2)
            places = [*opposite, *(k for k in range(n) if k not in opposite)]
            return [as_given[k:] + as_given[:k] for k in places]
        case "both":
            return [as_given, as_given[::-1]]
        case "all":
            number_of_orders(n, form, orders)
            return list(permutations(as_given))


def asked_first(n: int, form: Form, orders: Orders) -> int:
    """How many of ``question_orders`` are always asked; the others only if these disagree."""
    return 2 if form == "listwise" and orders == "adaptive" else number_of_orders(n, form, orders)


def combine(n: int, asked: Sequence[tuple[int, ...]], label_log_probs: Sequence[Sequence[float]]) -> Choice:
    """Average the answers to the questions ``asked`` into a probability for each response.

    Args:
        n: how many responses the set has.
        asked: the response indices of each question, in the order shown.
        label_log_probs: for each question, the log-probability of each shown option's letter, in nats.

    Each response's probability is the mean, over the questions that show it, of its renormalised letter
    probability. For ``listwise`` they sum to 1; for ``pairwise`` to n/2, each being the mean chance to win a pair.

    Raises:
        ValueError: if a log-probability is not finite.
    """
    won: list[list[float]] = [[] for _ in range(n)]
    shown: dict[frozenset[int], list[dict[int, float]]] = {}  # by the responses of a question, each order's answer
    answers: list[OneAnswer] = []
    for order, log_probs in zip(asked, label_log_probs, strict=True):
        if not all(isfinite(value) for value in log_probs):
            raise ValueError("the probability of an option letter is not finite")
        # Shifted by the largest, so that letters with tiny probability still renormalise exactly.
        largest = max(log_probs)
        shares = [exp(value - largest) for value in log_probs]
        total = fsum(shares)
        probabilities = [share / total for share in shares]
        mass = fsum(exp(value) for value in log_probs)
        answers.append(OneAnswer(order, probabilities, mass))
        answer = dict(zip(order, probabilities, strict=True))
        shown.setdefault(frozenset(order), []).append(answer)
        for index, probability in answer.items():
            won[index].append(probability)
    means = [fsum(values) / len(values) for values in won]
    mean_mass = fsum(each.label_mass for each in answers) / len(answers)
    return Choice(means, mean_mass, _disagreement(shown.values()), len(answers), answers)


def _disagreement(shown: Iterable[Sequence[Mapping[int, float]]]) -> float | None:
    """The largest total variation, half of the summed differences, between two answers about the same responses."""
    pairs = [pair for answers in shown for pair in combinations(answers, 2)]
    distances = (fsum(abs(one[index] - other[index]) for index in one) / 2 for one, other in pairs)
    return max(distances, default=None)
