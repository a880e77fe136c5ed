"""The real pair's instructions: every rule can be kept and broken, and held-out topics are not trained on."""

import json
import random
import sys
from importlib import import_module
from typing import Any

import pytest

from pad_teacher.scoring.load import read_question
from support.paths import ROOT

HERE = ROOT / "examples" / "real"

# For each rule: its value, a response that keeps it, and one that breaks it.
EXAMPLES: dict[str, tuple[Any, str, str]] = {
    "at_most_words": (3, "One two three.", "One two three four."),
    "at_least_words": (2, "One two.", "One."),
    "sentences": (2, "Go on. Stop!", "Go on, then stop."),
    "one_line": (None, "All in one line.", "Two\nlines."),
    "bullets": (2, "- one\n- two", "- one\n- two\n- three"),
    "numbered": (2, "1. one\n2. two", "1. one\n3. three"),
    "includes": (["time"], "Take your time.", "Take sometimes."),
    "excludes": (["you"], "Take your time.", "As you like."),
    "starts_with": ("First", "first, rest", "Rest first"),
    "ends_with": ("Enjoy!", "Eat. Enjoy!", "Enjoy! Eat."),
    "lower_case": (None, "all small.", "Not all small."),
    "upper_case": (None, "ALL LARGE.", "Not ALL."),
    "no_commas": (None, "No pause here.", "A pause, here."),
    "no_digits": (None, "Two cups.", "2 cups."),
    "has_digit": (None, "2 cups.", "Two cups."),
    "language": ("french", "Il est dans la maison et vous attend.", "He is in the house and waits for you."),
}


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's scripts, which are no package."""
    monkeypatch.syspath_prepend(str(HERE))
    yield import_module
    for name in ("rules", "make_instructions"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("rule", EXAMPLES)
def test_a_rule_tells_kept_from_broken(real: Any, rule: str) -> None:
    value, kept, broken = EXAMPLES[rule]
    grade = real("rules").kept
    assert (grade(kept, [{"rule": rule, "value": value}]), grade(broken, [{"rule": rule, "value": value}])) == (1, 0)


def test_every_rule_is_tried_here(real: Any) -> None:
    assert real("rules").RULES.keys() == EXAMPLES.keys()


def test_nothing_keeps_no_rule_by_saying_nothing(real: Any) -> None:
    asked = [name for name in EXAMPLES if name != "at_most_words"]
    grade = real("rules").kept
    assert not any(grade("", [{"rule": name, "value": EXAMPLES[name][0]}]) for name in asked)


def test_an_instruction_without_a_rule_is_an_error(real: Any) -> None:
    with pytest.raises(ValueError, match="without a rule"):
        real("rules").kept("text", [])


def test_the_committed_instructions_are_those_of_the_script(real: Any) -> None:
    made, rng = real("make_instructions"), random.Random(0)
    for name, topics, count in (
        ("prompts", made.TOPICS, made.TRAINED),
        ("heldout", made.OTHER_TOPICS, made.HELD_OUT),
    ):
        assert (HERE / f"{name}.jsonl").read_text().splitlines() == made.drawn(rng, topics, count, name)


def test_held_out_topics_are_never_trained_on(real: Any) -> None:
    trained = [json.loads(line)["prompt"] for line in (HERE / "prompts.jsonl").read_text().splitlines()]
    assert not [prompt for prompt in trained for topic in real("make_instructions").OTHER_TOPICS if topic in prompt]


def test_the_question_is_one_that_the_service_takes() -> None:
    assert read_question(HERE / "question.yaml").answer == "The best response is ("
