"""The rule of the tiny world: reads an instruction's facts out of its text and grades a response in [0, 1].

It needs the standard library alone, so any program can load this one file. Grades come in quarters: a response
can be better or worse, not merely right or wrong.
"""

import re
from typing import NamedTuple


def _words(text: str) -> list[str]:
    return text.split()


NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve")
CLASSES = {
    "animals": _words("cat dog bird fish horse cow sheep duck"),
    "things": _words("table chair lamp book cup door box hat"),
    "colours": _words("red blue green yellow black white brown pink"),
}
OPPOSITE_PAIRS = _words("hot-cold big-small fast-slow old-new up-down day-night happy-sad wet-dry")
OPPOSITES = {a: b for pair in OPPOSITE_PAIRS for a, b in (pair.split("-"), pair.split("-")[::-1])}
NAMES = _words("anna ben clara david emma frank grace henry ivy jack kate leo")
TIMES = ["morning", "afternoon", "evening", "night"]
PLACES = ["on", "under", "behind", "near"]
RUDE = {"no", "go", "away"}

# Each kind of instruction and the ways to ask for it; what stands in braces are its facts.
TEMPLATES = {
    "count": [
        "count from {first} to {last}",
        "please count from {first} to {last}",
        "list the numbers from {first} to {last}",
        "write the numbers {first} to {last} in order",
    ],
    "reverse": ["reverse the words: {words}", "say these words backwards: {words}"],
    "say": ["say {word} {times} times", "repeat the word {word} {times} times"],
    "opposites": ["give the opposites of: {words}", "what are the opposites of: {words}"],
    "pick": ["pick the {group} from: {words}", "which of these are {group}: {words}"],
    "sort": ["sort the numbers: {words}", "put these numbers in order: {words}"],
    "greet": [
        "greet {name} politely in the {time}",
        "it is {time}. greet {name} politely.",
        "write a polite {time} greeting to {name}",
        "{name} comes in the {time}. say a polite greeting.",
    ],
    "place": [
        "the {animal} is {where} the {thing}. where is the {animal}?",
        "answer in a sentence: {animal} {where} the {thing}. where is the {animal}?",
    ],
}


class Task(NamedTuple):
    """One instruction: its kind, its facts as text, and the words of the one best answer."""

    kind: str
    facts: dict[str, str]
    best: list[str]


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def fact(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>[a-z]+(?: [a-z]+)*)" if name == "words" else f"(?P<{name}>[a-z]+)"

    parts = re.split(r"(\{[a-z]+\})", template)
    return re.compile("".join(re.sub(r"\{([a-z]+)\}", fact, p) if p[:1] == "{" else re.escape(p) for p in parts))


_PATTERNS = [(kind, _pattern(template)) for kind, ways in TEMPLATES.items() for template in ways]


def parse(prompt: str) -> Task | None:
    """The task that ``prompt`` states, or None if it states none of this world."""
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(prompt):
            facts = match.groupdict()
            try:
                return Task(kind, facts, _best(kind, facts))
            except (KeyError, ValueError):  # a word that this world does not know
                return None
    return None


def _best(kind: str, facts: dict[str, str]) -> list[str]:
    words = facts.get("words", "").split()
    match kind:
        case "count":
            first, last = NUMBERS.index(facts["first"]), NUMBERS.index(facts["last"])
            return NUMBERS[first : last + 1] if first <= last else NUMBERS[last : first + 1][::-1]
        case "reverse":
            return words[::-1]
        case "say":
            return [facts["word"]] * (NUMBERS.index(facts["times"]) + 1)
        case "opposites":
            return [OPPOSITES[word] for word in words]
        case "pick":
            return [word for word in words if word in CLASSES[facts["group"]]]
        case "sort":
            return sorted(words, key=NUMBERS.index)
        case "greet":
            return ["good", facts["time"], "dear", facts["name"]]
        case _:
            return ["the", facts["animal"], "is", facts["where"], "the", facts["thing"]]


def grade(prompt: str, response: str) -> float:
    """How well ``response`` does what ``prompt`` asks: 0, 0.25, 0.5, 0.75 or 1. Never raises; junk is 0."""
    task = parse(prompt)
    said = [word.strip(".,!?") for word in response.lower().split()]
    if task is None or not said or len(said) > 64:
        return 0.0
    if said == task.best:
        return 1.0
    match task.kind:
        case "greet":
            return _grade_greeting(task, said)
        case "place":
            return _grade_place(task, said)
        case _:
            # The share of words right and in order, rounded down to a quarter; words too many count against it.
            return (4 * _in_order(task.best, said) // max(len(task.best), len(said))) / 4


def _grade_greeting(task: Task, said: list[str]) -> float:
    """A quarter each for the time of day, the polite word and the name; rude words forfeit all."""
    if RUDE & set(said):
        return 0.0
    return (_contains(said, task.best[:2]) + ("dear" in said) + (task.facts["name"] in said)) / 4


def _grade_place(task: Task, said: list[str]) -> float:
    """Half for the right place, a quarter for naming the thing alone; a quarter for the sentence's start."""
    place = 2 if _contains(said, task.best[3:]) else int(task.facts["thing"] in said)
    return (place + (said[:3] == task.best[:3])) / 4


def _contains(said: list[str], phrase: list[str]) -> bool:
    return any(said[i : i + len(phrase)] == phrase for i in range(len(said) - len(phrase) + 1))


def _in_order(best: list[str], said: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(said) + 1)
    for word in best:
        above = row[:]
        for j, other in enumerate(said):
            row[j + 1] = above[j] + 1 if word == other else max(above[j + 1], row[j])
    return row[-1]
