"""Write ``prompts.jsonl`` and ``heldout.jsonl``: everyday instructions, each with rules that a program can check.

Run it as ``python examples/real/make_instructions.py``. Topics and tasks are written by hand and crossed with rules
by a seeded draw; held-out topics never stand in ``prompts.jsonl``.

Only rules that SmolLM2-135M-Instruct keeps in more than 5 % and less than 95 % of its samples are asked. Others
cannot tell a better student from a worse one. It writes nearly no sample in small or capital letters, as bullets,
or with the last words that are asked for.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TRAINED, HELD_OUT = 240, 80

TOPICS = """watering houseplants|baking bread|learning to swim|packing for a weekend trip|cleaning a bicycle chain
choosing running shoes|making pancakes|saving electricity at home|adopting a cat|writing a birthday card
preparing for a job interview|growing tomatoes|sleeping better|planning a picnic|brewing green tea
fixing a squeaky door|learning the guitar|reading more books|keeping a diary|moving to a new city
sharing a kitchen with flatmates|taking photos at night|cooking rice|using public transport
riding a bicycle in the rain|hosting a board game evening|feeding birds in winter|studying for an exam
giving a short speech|organising a bookshelf|caring for wool sweaters|walking a dog
making friends at work|painting a wall|learning French|eating more vegetables|avoiding food waste
camping in the forest|stretching in the morning|calling a grandparent|repairing a torn shirt
starting a small garden|visiting a museum with children|making a budget|drinking enough water
choosing a gift|resting the eyes at work|mending a puncture|planting a tree|buying a used car""".replace(
    "\n", "|"
).split("|")
OTHER_TOPICS = """keeping goldfish|making lemonade|learning chess|washing windows|travelling by night train
ironing a shirt
singing in a choir|storing potatoes|building a snowman|writing a thank-you note|sharpening kitchen knives
watching the stars|crossing a busy street|recycling glass|learning to knit|cooking for a friend with allergies
carrying heavy shopping|waking up early|growing basil on a balcony|returning a library book""".replace(
    "\n", "|"
).split("|")

TASKS = [
    "Give advice about {topic}.",
    "Explain why {topic} can be worth the effort.",
    "Write a short message to a friend about {topic}.",
    "Describe the first step of {topic}.",
    "Tell a beginner what matters most about {topic}.",
    "Name a common mistake in {topic} and how to avoid it.",
]
LIST_TASKS = ["Give tips for {topic}.", "Say what one needs for {topic}."]
KEYWORDS = ["time", "patience", "morning", "careful", "simple", "help", "together", "slowly"]
COMMON = ["you", "should", "make", "good"]
STARTS = ["First", "Today", "Remember", "My advice"]

# What is asked of the response: the sentence, and the rule that checks it.
Asked = tuple[str, dict[str, Any]]


def _plain(rng: random.Random) -> Asked:
    """A rule that goes with any task."""
    n, word, banned = rng.choice([15, 20, 25]), rng.choice(KEYWORDS), rng.choice(COMMON)
    count, start = rng.choice([1, 2, 3]), rng.choice(STARTS)
    choices: list[Asked] = [
        (f"Use at most {n} words.", {"rule": "at_most_words", "value": n}),
        (f"Answer in exactly {count} sentence{'s' * (count > 1)}.", {"rule": "sentences", "value": count}),
        ("Answer in one line.", {"rule": "one_line", "value": None}),
        (f"Use the word '{word}'.", {"rule": "includes", "value": [word]}),
        (f"Do not use the word '{banned}'.", {"rule": "excludes", "value": [banned]}),
        (f"Begin with '{start}'.", {"rule": "starts_with", "value": start}),
        ("Do not use commas.", {"rule": "no_commas", "value": None}),
        ("Mention a number, in digits.", {"rule": "has_digit", "value": None}),
        (
            f"Answer in {(name := rng.choice(['French', 'German', 'Spanish']))}.",
            {"rule": "language", "value": name.lower()},
        ),
    ]
    return rng.choice(choices)


def _list(rng: random.Random) -> Asked:
    """A rule about lists."""
    n = rng.choice([2, 3, 4])
    return f"Answer with a numbered list of exactly {n} points.", {"rule": "numbered", "value": n}


def instruction(rng: random.Random, topic: str) -> tuple[str, list[dict[str, Any]]]:
    """One instruction about a topic, with one rule or two that go together."""
    if rng.random() < 0.25:
        asked = [_list(rng)]
        task = rng.choice(LIST_TASKS)
    else:
        asked = [_plain(rng)]
        while rng.random() < 0.5 and len(asked) < 2:
            other = _plain(rng)
            if {asked[0][1]["rule"], other[1]["rule"]} not in CLASHES and asked[0][1]["rule"] != other[1]["rule"]:
                asked.append(other)
        task = rng.choice(TASKS)
    return " ".join([task.format(topic=topic), *(sentence for sentence, _ in asked)]), [rule for _, rule in asked]


# Together they cannot be kept, or hardly.
CLASHES = [{"language", other} for other in ("includes", "excludes", "starts_with")]


def drawn(rng: random.Random, topics: Sequence[str], count: int, name: str) -> list[str]:
    """``count`` different instructions as JSON lines; topics take turns."""
    found: dict[str, str] = {}
    while len(found) < count:
        prompt, rules = instruction(rng, topics[len(found) % len(topics)])
        if prompt not in found:
            found[prompt] = json.dumps({"id": f"{name}-{len(found):03d}", "prompt": prompt, "rules": rules})
    return list(found.values())


def main() -> None:
    """Write both files."""
    rng = random.Random(0)
    for name, topics, count in (("prompts", TOPICS, TRAINED), ("heldout", OTHER_TOPICS, HELD_OUT)):
        (HERE / f"{name}.jsonl").write_text("\n".join(drawn(rng, topics, count, name)) + "\n")


if __name__ == "__main__":
    main()
