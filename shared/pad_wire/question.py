"""The multiple-choice question's wording: what the teacher is told, how options are marked, how its answer begins."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from pad_wire.scoring import LETTERS
from pad_wire.sets import Message
from pad_wire.text import Text, WireModel


def _with_marks(*names: str) -> AfterValidator:
    def check(text: str) -> str:
        for name in names:
            if text.count(f"{{{name}}}") != 1:
                raise ValueError(f"{{{name}}} must stand in it exactly once")
        return text

    return AfterValidator(check)


class QuestionForm(WireModel):
    """One way to ask. Only the four marks in braces are filled in; every other brace is text.

    Put the request first, word for word as in the likelihood's prompt: then one call that asks for both computes it
    once. ``answer`` begins the assistant's turn, and the letter comes next; many chat models choose far
    better if it is begun for them (arXiv 2505.15323). The default was chosen among the wordings of
    ``benchmarks/results/question.json``.
    """

    system: Text | None = Field(default=None, description="the system message, if there is one")
    user: Annotated[Text, _with_marks("request", "options"), Field(description="the user's message")] = (
        "{request}\n\nHere are responses to the request above:\n\n{options}\n\n"
        "Which response is the most helpful, correct and relevant?"
    )
    option: Annotated[Text, _with_marks("letter", "text"), Field(description="one option")] = '({letter}) "{text}"'
    separator: Text = Field(default="\n\n", description="text between two options")
    answer: Text = Field(
        default="The best response is (", description="beginning of the assistant's answer; the letter comes next"
    )

    def messages(self, request: str, options: Sequence[str]) -> list[Message]:
        """The conversation that asks which of ``options`` answers ``request`` best."""
        marked = self.separator.join(
            _filled(self.option, {"letter": letter, "text": text})
            for letter, text in zip(LETTERS, options, strict=False)
        )
        user = _filled(self.user, {"request": request, "options": marked})
        system = [] if self.system is None else [Message(role="system", content=self.system)]
        return [*system, Message(role="user", content=user)]


PLAIN = QuestionForm(
    user=(
        "{request}\n\nWhich response answers the request above best?\n\n{options}\n\n"
        "Answer with the letter of the best response only."
    ),
    option="{letter}. {text}",
    answer="",
)
"""For a tokenizer or a template that cannot begin the default's answer: the answer is the letter alone."""


def _filled(form: str, values: Mapping[str, str]) -> str:
    """``form`` with each ``{name}`` replaced in one pass, so that braces within a value stay what they are."""
    names = "|".join(values)
    return re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], form)
