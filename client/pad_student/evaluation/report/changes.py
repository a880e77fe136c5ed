"""The words of a text that the closest of other texts lacks: what changed between samples before and after."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

MOST_WORDS = 2000  # of a text; longer ones are shown without marks, because a comparison takes seconds

Part = tuple[str, bool]


@lru_cache(maxsize=4096)
def changes(text: str, others: tuple[str, ...]) -> tuple[Part, ...]:
    """The text in parts, each with whether the closest of ``others`` lacks it; the parts joined are the text."""
    words = _words(text)
    compared = [other for other in map(_words, others) if len(other) <= MOST_WORDS]
    if text in others or not compared or not 0 < len(words) <= MOST_WORDS:
        return ((text, False),) if text else ()
    closest = max((SequenceMatcher(None, other, words, autojunk=False) for other in compared), key=_closeness)
    parts = [
        ("".join(words[begin:end]), tag != "equal") for tag, _, _, begin, end in closest.get_opcodes() if begin < end
    ]
    return tuple(parts)


def _closeness(matcher: "SequenceMatcher[str]") -> float:
    return matcher.ratio()


def _words(text: str) -> Sequence[str]:
    """Words, single signs and white space, in order."""
    return re.findall(r"\w+|\s+|[^\w\s]", text)
