"""Guards next to a score: how long responses are, how many were finished, and how much they repeat."""

import statistics
from collections.abc import Sequence
from itertools import pairwise

from pad_wire import Response


def guards(responses: Sequence[Response]) -> dict[str, float]:
    """A score that rises while one of these breaks is no gain.

    Returns:
        ``mean_characters`` and ``median_characters``; ``finished``, the share that was not cut; ``distinct_2``, the
        different pairs of neighbouring words over all such pairs, 1 without repetition (Li et al., arXiv 1510.03055),
        over all responses together; ``repeated_4``, the share of responses in which four words in a row return.
        A word is what stands between spaces.
    """
    characters = [len(response.text) for response in responses]
    words = [response.text.split() for response in responses]
    pairs = [pair for each in words for pair in pairwise(each)]
    return {
        "mean_characters": statistics.fmean(characters),
        "median_characters": statistics.median(characters),
        "finished": statistics.fmean(response.finished for response in responses),
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 1.0,
        "repeated_4": statistics.fmean(_returns(each) for each in words),
    }


def _returns(words: Sequence[str]) -> bool:
    """Whether four words in a row stand there twice."""
    fours = [tuple(words[k : k + 4]) for k in range(len(words) - 3)]
    return len(set(fours)) < len(fours)
