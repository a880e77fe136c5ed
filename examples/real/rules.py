"""Rules that a program can check: whether a response keeps what its instruction asks for."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# Words that are frequent in one language and rare in the others.
COMMON_WORDS = {
    "french": {"le", "la", "les", "est", "et", "une", "des", "pour", "dans", "vous", "je", "qui"},
    "german": {"der", "die", "das", "ist", "und", "ein", "eine", "nicht", "mit", "für", "sie", "ich"},
    "spanish": {"el", "los", "las", "es", "y", "una", "para", "con", "por", "que", "del", "muy"},
}


def words(text: str) -> list[str]:
    """The words of a text, as they are written."""
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text)


def sentences(text: str) -> list[str]:
    """What ends with a full stop, a question mark or an exclamation mark."""
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def lines(text: str) -> list[str]:
    """The lines that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _language(text: str, name: str) -> bool:
    found = [word.lower() for word in words(text)]
    counts = {language: sum(word in common for word in found) for language, common in COMMON_WORDS.items()}
    return counts[name] >= max(2, 1 + max(value for key, value in counts.items() if key != name))


RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "at_most_words": lambda text, n: 0 < len(words(text)) <= n,
    "at_least_words": lambda text, n: len(words(text)) >= n,
    "sentences": lambda text, n: len(sentences(text)) == n,
    "one_line": lambda text, _: len(lines(text)) == 1,
    "bullets": lambda text, n: (
        len(lines(text)) == n and all(line.startswith(("- ", "* ", "• ")) for line in lines(text))
    ),
    "numbered": lambda text, n: [line.split(". ")[0] for line in lines(text)] == [str(k + 1) for k in range(n)],
    "includes": lambda text, wanted: all(
        re.search(rf"\b{re.escape(each)}\b", text, re.IGNORECASE) for each in wanted
    ),
    "excludes": lambda text, banned: (
        bool(text.strip()) and not any(re.search(rf"\b{re.escape(each)}\b", text, re.IGNORECASE) for each in banned)
    ),
    "starts_with": lambda text, start: text.strip().lower().startswith(start.lower()),
    "ends_with": lambda text, end: text.strip().lower().endswith(end.lower()),
    "lower_case": lambda text, _: bool(words(text)) and text == text.lower(),
    "upper_case": lambda text, _: bool(words(text)) and text == text.upper(),
    "no_commas": lambda text, _: bool(words(text)) and "," not in text,
    "no_digits": lambda text, _: bool(words(text)) and not re.search(r"\d", text),
    "has_digit": lambda text, _: bool(re.search(r"\d", text)),
    "language": _language,
}


def kept(text: str, rules: Sequence[Mapping[str, Any]]) -> float:
    """The share of an instruction's rules that a response keeps.

    Args:
        text: the response.
        rules: each ``{"rule": NAME, "value": VALUE}``, as in ``prompts.jsonl``.

    Raises:
        KeyError: for a rule that there is not.
        ValueError: without a rule.
    """
    if not rules:
        raise ValueError("an instruction without a rule cannot be graded")
    return sum(RULES[each["rule"]](text, each["value"]) for each in rules) / len(rules)


def grade(prompt: str, response: str) -> float:
    """A grader for ``eval grade``: the share of its rules that a response to a committed instruction keeps.

    Raises:
        KeyError: for an instruction that is in neither file.
    """
    return kept(response, _rules_by_prompt()[prompt])


@cache
def _rules_by_prompt() -> dict[str, list[dict[str, Any]]]:
    here = Path(__file__).parent
    lines = [line for name in ("prompts", "heldout") for line in (here / f"{name}.jsonl").read_text().splitlines()]
    return {each["prompt"]: each["rules"] for each in map(json.loads, lines)}
