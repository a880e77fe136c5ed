"""A stream of response sets in requests of a good size."""

from collections.abc import Iterable, Iterator

from pad_wire import Limits, SampledSet
from pad_wire.chat import as_text

SETS_PER_REQUEST = 16
CHARACTERS_PER_REQUEST = 100_000
BYTES_PER_CHARACTER = 12  # at most, in JSON: an escaped surrogate pair


def in_requests(
    sets: Iterable[SampledSet], limits: Limits | None, most_sets: int = SETS_PER_REQUEST
) -> Iterator[list[SampledSet]]:
    """Group sets, in order, into requests within the service's limits; no set is divided.

    A request with ``most_sets`` is yielded before the next set is read, because that one may take long to come.

    Args:
        sets: any number.
        limits: the service's, if they are known.
        most_sets: sets in one request, if the limits allow as many.
    """
    most_characters = CHARACTERS_PER_REQUEST
    if limits:
        most_sets = min(most_sets, limits.max_sets)
        most_characters = min(most_characters, limits.max_body_bytes // BYTES_PER_CHARACTER)
    request: list[SampledSet] = []
    characters = 0
    for each in sets:
        size = len(as_text(each.prompt)) + sum(len(response.text) for response in each.responses)
        if request and characters + size > most_characters:
            yield request
            request, characters = [], 0
        request.append(each)
        characters += size
        if len(request) == most_sets:
            yield request
            request, characters = [], 0
    if request:
        yield request
