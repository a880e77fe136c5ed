"""The tiny world's instructions, made from seeded chance, and answers to them in good and bad styles."""

import random
from hashlib import sha256

from grade import CLASSES, NAMES, NUMBERS, OPPOSITES, PLACES, TEMPLATES, TIMES, Task, grade, parse

KINDS = list(TEMPLATES)
NOUNS = [word for group in CLASSES.values() for word in group]
SYSTEM_PROMPTS = ["you are a helpful assistant", "answer in plain words", "be polite"]
ONE_IN_HELD_OUT = 7

# How often a badly taught student answers in each style.
STUDENT_STYLES = {
    "best": 25,
    "rude": 13,
    "lazy": 12,
    "early": 12,
    "echo": 11,
    "careless": 12,
    "slip": 7,
    "swap": 4,
    "long": 4,
}
# The same styles, more even, plus noise: the teacher learns to tell them apart.
TEACHER_STYLES = dict.fromkeys(STUDENT_STYLES, 2) | {"best": 5, "noise": 1}


def is_held_out(prompt: str) -> bool:
    """Whether ``prompt`` may only be used to measure: decided by its text, so no list has to be kept."""
    return sha256(prompt.encode()).digest()[0] % ONE_IN_HELD_OUT == 0


def instruction(rng: random.Random, kind: str | None = None) -> str:
    """One instruction, of any kind unless told."""
    kind = kind or rng.choice(KINDS)
    return rng.choice(TEMPLATES[kind]).format(**_facts(rng, kind))


def _facts(rng: random.Random, kind: str) -> dict[str, str]:
    match kind:
        case "count":
            start, length = rng.randrange(len(NUMBERS) - 4), rng.randint(3, 5)
            ends = [NUMBERS[start], NUMBERS[start + length - 1]]
            rng.shuffle(ends)
            return dict(zip(("first", "last"), ends, strict=True))
        case "reverse":
            return {"words": " ".join(rng.sample(NOUNS, 3))}
        case "say":
            return {"word": rng.choice([*NOUNS, *OPPOSITES]), "times": NUMBERS[rng.randint(1, 4)]}
        case "opposites":
            return {"words": " ".join(rng.sample(sorted(OPPOSITES), rng.randint(2, 3)))}
        case "pick":
            group = rng.choice(list(CLASSES))
            wanted = rng.sample(CLASSES[group], 2)
            words = wanted + rng.sample([noun for noun in NOUNS if noun not in CLASSES[group]], 2)
            rng.shuffle(words)
            return {"group": group, "words": " ".join(words)}
        case "sort":
            return {"words": " ".join(rng.sample(NUMBERS, 3))}
        case "greet":
            return {"name": rng.choice(NAMES), "time": rng.choice(TIMES)}
        case _:
            return {
                "animal": rng.choice(CLASSES["animals"]),
                "where": rng.choice(PLACES),
                "thing": rng.choice(CLASSES["things"]),
            }


def training_instruction(rng: random.Random, kind: str | None = None) -> str:
    """One instruction that is not held out."""
    while is_held_out(prompt := instruction(rng, kind)):
        pass
    return prompt


def distinct_instructions(rng: random.Random, count: int, held_out: bool) -> list[str]:
    """``count`` different instructions, all held out or none."""
    chosen: dict[str, None] = {}
    while len(chosen) < count:
        prompt = instruction(rng)
        if is_held_out(prompt) == held_out:
            chosen[prompt] = None
    return list(chosen)


def answer(rng: random.Random, prompt: str, styles: dict[str, int]) -> str:
    """An answer to ``prompt`` in a style drawn from ``styles``."""
    task = parse(prompt)
    assert task is not None, prompt
    style = rng.choices(list(styles), list(styles.values()))[0]
    return " ".join(_styled(rng, task, style))


def best_answer(prompt: str) -> str:
    """The one answer that the rule gives full marks."""
    task = parse(prompt)
    assert task is not None, prompt
    return " ".join(task.best)


def _styled(rng: random.Random, task: Task, style: str) -> list[str]:
    best = list(task.best)
    match style:
        case "best":
            return best
        case "early":
            return best[: rng.randint(1, len(best) - 1)]
        case "echo":
            return _echo(task)
        case "rude":
            return rng.choice(["no", "go away", "no no no"]).split()
        case "lazy":
            return best[-1:]
        case "long":
            return best + [rng.choice(best)] * rng.randint(1, 3)
        case "swap":
            i, j = rng.sample(range(len(best)), 2)
            best[i], best[j] = best[j], best[i]
            return best
        case "slip" | "careless":
            wrong = 1 if style == "slip" else (len(best) + 1) // 2
            for i in rng.sample(range(len(best)), wrong):
                best[i] = _mistake(rng, best[i])
            return best
        case _:
            return [rng.choice([*NOUNS, *NUMBERS, *OPPOSITES, *NAMES]) for _ in range(rng.randint(1, 6))]


def _echo(task: Task) -> list[str]:
    """The words of the instruction, echoed."""
    facts = task.facts
    match task.kind:
        case "count":
            return [facts["first"], facts["last"]]
        case "say":
            return [facts["word"], facts["times"]]
        case "greet":
            return ["hello", facts["name"]]
        case "place":
            return [facts["where"], "the", facts["thing"]]
        case _:
            return facts["words"].split()


def _mistake(rng: random.Random, word: str) -> str:
    """Another word of the same sort; for a number, a neighbour."""
    if word in NUMBERS:
        at = NUMBERS.index(word)
        return NUMBERS[at + 1 if at == 0 or (at + 1 < len(NUMBERS) and rng.random() < 0.5) else at - 1]
    sorts = [*CLASSES.values(), NAMES, TIMES, PLACES, list(OPPOSITES)]
    mates = next((group for group in sorts if word in group), NOUNS)
    return rng.choice([mate for mate in mates if mate != word])


def graded(prompt: str, responses: list[str]) -> list[float]:
    """The grade of each response."""
    return [grade(prompt, response) for response in responses]
