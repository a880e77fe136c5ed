"""What hard conversations show of a chat template: findings that a user may know to do no harm, each in one line."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pad_wire.rendering.answer_place import PROBE, AnswerPlace
from pad_wire.rendering.template import Template, TemplateError

TemplateFinding = Literal["template-prompt", "template-answer", "template-end"]

REMEDY = "mend the template, or give another with --chat-template FILE"
# Two texts each that only a template which loses something writes alike.
PAIRS = (
    ("Name a colour", "name a colour"),
    ("one two", "one  two"),
    ("one two", "one\ntwo"),
    ("one\ntwo", "one\n\ntwo"),
    ("naïve", "naive"),
    ("a <b>bold</b> word", "a bold word"),
    ("x" * 20_000 + " one", "x" * 20_000 + " two"),
)
ANSWERS = (
    "Red, green.\n\nThat is  all: \"x\" & <b>'y'</b> {{ z }}",
    "naïve, Straße, 日本 and 🙂",
    "def f(x):\n    return {x: x ** 2}",
    "x" * 20_000 + " end",
)
SHOWN = 60  # characters of a text in a message
ROLES = ("system", "user", "assistant", "user")


class Finding(NamedTuple):
    """A finding: the name by which it is allowed, and the sentence that tells it and its remedy."""

    name: TemplateFinding
    sentence: str


def findings(template: Template, place: AnswerPlace) -> Iterator[Finding]:
    """What a template does to hard conversations that makes its numbers doubtful.

    - ``template-prompt``: it writes two prompts that differ as one, so they have one score.
    - ``template-answer``: it changes an answer, so its own rendering has other tokens than the answer's text.
    - ``template-end``: the next turn's markup follows an answer, and no end that the model declares.
    """
    if pair := _written_alike(template):
        first, second = (repr(text[-SHOWN:]) for text in pair)
        yield Finding("template-prompt", f"the chat template writes {first} and {second} alike; {REMEDY}")
    if (changed := _changed_answer(template)) is not None:
        yield Finding("template-answer", f"the chat template changes the answer {changed[-SHOWN:]!r}; {REMEDY}")
    if not place.end_is_written and (token := place.next_turn):
        yield Finding(
            "template-end",
            f"the chat template closes an answer with the next turn's {token!r} alone, which the model does not"
            " declare as an end; add it to eos_token_id in generation_config.json",
        )


def _written_alike(template: Template) -> Sequence[str] | None:
    """The first two texts that the template writes alike in some turn; turns that it refuses are left out."""
    for roles in (ROLES, ROLES[1:], ROLES[1:2]):
        for turn in range(len(roles)):
            try:
                if _written(template, roles, turn, "one") == _written(template, roles, turn, "two"):
                    continue  # the whole turn is left out: a conversation that has one is refused
                for pair in PAIRS:
                    if len({_written(template, roles, turn, text) for text in pair}) == 1:
                        return pair
            except TemplateError:
                continue
    return None


def _written(template: Template, roles: Sequence[str], turn: int, text: str) -> str:
    talk = [{"role": role, "content": text if place == turn else "hello"} for place, role in enumerate(roles)]
    return template.render(talk, generation=roles[-1] == "user")


def _changed_answer(template: Template) -> str | None:
    """The first answer that does not stand, as it is, where the template puts a plain one; it may be trimmed."""

    def answered(text: str) -> str:
        return template.render(
            [{"role": "user", "content": "hello"}, {"role": "assistant", "content": text}], generation=False
        )

    before, found, after = answered(PROBE).rpartition(PROBE)
    if not found:
        return None  # the place of an answer has a note about it
    return next((text for text in ANSWERS if answered(text) != before + text + after), None)
