"""A stream of response sets in requests of a good size."""

import math
from collections.abc import Callable, Iterable, Iterator
from math import comb, factorial

from pad_student.teacher.options import ScoreOptions
from pad_wire import Limits, SampledSet
from pad_wire.chat import as_text

SETS_PER_REQUEST = 16
CHARACTERS_PER_REQUEST = 100_000
BYTES_PER_TOKEN = 3  # of UTF-8, about; a request that is too large all the same is halved
IDS_A_TOKEN = 64  # named at a token: the service counts so many as one more
SHARE_OF_QUEUE = 8  # so many requests fit into the service's queue, which is of all clients
BYTES_PER_CHARACTER = 12  # at most, in JSON: an escaped surrogate pair


def in_requests(
    sets: Iterable[SampledSet],
    limits: Limits | None,
    most_sets: int = SETS_PER_REQUEST,
    work_of: Callable[[SampledSet], float] = lambda each: 0.0,
    most_work: Callable[[], float] = lambda: math.inf,
) -> Iterator[list[SampledSet]]:
    """Group sets, in order, into requests within the service's limits; no set is divided.

    A request with ``most_sets`` is yielded before the next set is read, because that one may take long to come.

    Args:
        sets: any number.
        limits: the service's, if they are known.
        most_sets: sets in one request, if the limits allow as many.
        work_of: a set's work in teacher tokens, about.
        most_work: the most work of one request at this time; one set may have more.
    """
    most_characters = CHARACTERS_PER_REQUEST
    if limits:
        most_sets = min(most_sets, limits.max_sets)
        most_characters = min(most_characters, limits.max_body_bytes // BYTES_PER_CHARACTER)
    most_queued = limits.max_queued_tokens / SHARE_OF_QUEUE if limits else math.inf
    request: list[SampledSet] = []
    characters, work = 0, 0.0
    for each in sets:
        size = len(as_text(each.prompt)) + sum(len(response.text) for response in each.responses)
        own = work_of(each)
        if request and (characters + size > most_characters or work + own > min(most_work(), most_queued)):
            yield request
            request, characters, work = [], 0, 0.0
        request.append(each)
        characters, work = characters + size, work + own
        if len(request) == most_sets:
            yield request
            request, characters, work = [], 0, 0.0
    if request:
        yield request


def work_of(each: SampledSet, options: ScoreOptions) -> float:
    """About how many teacher tokens a set costs: its texts, and its questions in all of their orders."""
    prompt, texts = _bytes(as_text(each.prompt)), sum(_bytes(r.text) for r in each.responses)
    if options.token_top:
        models = 2 if options.reference else 1
        return models * (prompt + texts * (1 + options.token_top / IDS_A_TOKEN)) / BYTES_PER_TOKEN
    tokens = (prompt + texts * (2 if options.unconditional else 1)) / BYTES_PER_TOKEN
    if not options.asks_selection:
        return tokens
    if options.distinct:
        shown = {r.text for r in each.responses}
        n, texts = len(shown), sum(map(_bytes, shown))
    else:
        n = len(each.responses)
    if n == 1:
        return tokens
    if options.form == "pairwise":
        pairs = comb(n, 2) * (1 if options.orders == "single" else 2)
        return tokens + pairs * (prompt + 2 * texts / n) / BYTES_PER_TOKEN
    orders = {"single": 1, "both": 2, "cyclic": n, "adaptive": n}.get(options.orders, factorial(n))
    return tokens + orders * (prompt + texts) / BYTES_PER_TOKEN


def _bytes(text: str) -> int:
    return len(text.encode())
