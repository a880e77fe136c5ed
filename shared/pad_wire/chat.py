"""The rule by which both sides turn a prompt and a response into token ids under a model's own tokenizer.

- The prompt is rendered with the model's own chat template, up to where the template itself puts an answer.
- The response's ids are those it has there, in the conversation rendered as a whole.
- A finished response ends with what closes it in the template, up to the end-of-turn token, which is scored too
  (PAD, arXiv 2502.14272, equation 7).
- Contents are text: what is typed in a prompt or a response never becomes a control token.

Nothing here imports a tokenizer library.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from pad_wire.rendering.answer_place import PROBE, AnswerPlace
from pad_wire.rendering.control_tokens import ControlTokens, HiddenText, hidden_messages
from pad_wire.rendering.template import Messages, Template, TemplateError, TemplateOptions, Tokenizer
from pad_wire.rendering.turns import TurnCheck
from pad_wire.sets import Prompt

__all__ = ["ChatEncoder", "TemplateError", "TemplateOptions", "Tokenizer", "as_messages", "as_text"]

RULE = 3  # raised with every change of the ids


@dataclass(frozen=True, slots=True)
class ChatEncoder:
    """A tokenizer with its chat template, its control tokens, and the place of an answer."""

    template: Template
    control: ControlTokens
    place: AnswerPlace
    turns: TurnCheck

    @classmethod
    def of(cls, tokenizer: Tokenizer, options: TemplateOptions | None = None, ends: Collection[int] = ()) -> Self:
        """Try the template, and find where it puts an answer and what closes it.

        Args:
            tokenizer: of a model.
            options: the date and the arguments that the template reads.
            ends: tokens that the model's generation config declares as ends, if one may close an answer.

        Raises:
            TemplateError: if there is no usable chat template, or it closes an answer with no special token.

        """
        template = Template.of(tokenizer, options or TemplateOptions())
        control = ControlTokens(tokenizer, _plain_talk(template))
        return cls(template, control, AnswerPlace.of(template, control, ends), TurnCheck(template))

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.template.tokenizer

    @property
    def end_of_turn(self) -> int:
        """The token that closes a finished answer."""
        return self.place.end_of_turn

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Ids of the rendered prompt, up to where an answer begins; a plain string is one user message.

        Raises:
            TemplateError: if the model's template refuses the conversation, or leaves a message out.
        """
        return self.control.token_ids(*self.rendered(prompt))

    def rendered(self, prompt: Prompt) -> tuple[str, HiddenText]:
        """The rendered prompt as text, and the texts in it that are hidden from the tokenizer's control tokens.

        Raises:
            TemplateError: as for ``prompt_ids``.
        """
        messages, hidden = hidden_messages(as_messages(prompt), self.control)
        if self.place.after_generation_prompt:
            text = self.template.render(messages, generation=True)
        else:
            text = self._begun(messages, "").rstrip(" ")
        self.turns.check(messages)
        return text, hidden

    def prefilled_ids(self, prompt: Prompt, answer: str) -> list[int]:
        """Ids of the rendered prompt and of an assistant's turn that has begun with ``answer`` and goes on.

        The turn is rendered whole and cut after ``answer``, so it stands where the template itself puts an answer:
        after an empty thinking block or a channel header, say, and untouched by templates that trim.

        Raises:
            TemplateError: if the model's template refuses the conversation, or changes the answer's text.
        """
        if not answer:
            return self.prompt_ids(prompt)
        begun = {"role": "assistant", "content": answer}
        (*messages, turn), hidden = hidden_messages([*as_messages(prompt), begun], self.control)
        text = self._begun(messages, turn["content"])
        if not text.endswith(turn["content"]):
            raise TemplateError("the model's chat template changes the text of an answer that has begun")
        self.turns.check(messages)
        return self.control.token_ids(text, hidden)

    def response_ids(self, texts: Sequence[str], finished: Sequence[bool]) -> list[list[int]]:
        """Ids of each response as an answer. A finished response ends with the end-of-turn token."""
        place, hidden = self.place, self.control.hide(texts)
        bodies = [text if text.startswith(place.blank) else place.blank + text for text in hidden.texts]
        closed = [body + place.close if done else body for body, done in zip(bodies, finished, strict=True)]
        if hidden.mark:
            encoded = [self.control.token_ids(place.anchor + body, hidden) for body in closed]
        else:
            encoded = self.tokenizer([place.anchor + body for body in closed], add_special_tokens=False)["input_ids"]
        known = len(place.anchor_ids)
        rows: list[list[int]] = []
        for text, body, ids, done in zip(texts, closed, encoded, finished, strict=True):
            if list(ids[:known]) == list(place.anchor_ids):
                row = list(ids[known:])
            else:  # the first token would take in a part of the markup, which the prompt has already
                row = self.control.literal_ids(hidden.restored(body), "inside")
            row = row if text or done else []
            rows.append([*row, place.end_of_turn] if done else row)
        return rows

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens included and spaces as they are."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def describe(self) -> str:
        """All that decides the ids besides tokenizer and template, for a fingerprint."""
        options = self.template.options
        parts = [RULE, self.place.end_of_turn, options.date.isoformat(), dict(options.arguments)]
        return json.dumps(parts, sort_keys=True, default=str)

    def _begun(self, messages: Messages, answer: str) -> str:
        """The conversation rendered whole with a turn that begins with ``answer``, and cut after it."""
        turn = {"role": "assistant", "content": answer + PROBE}
        text, probe, _ = self.template.render([*messages, turn], generation=False).rpartition(PROBE)
        if not probe:
            raise TemplateError("the model's chat template leaves out an assistant's turn")
        return text


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as the list of messages that chat templates take."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": message.role, "content": message.content} for message in prompt]


def as_text(prompt: Prompt) -> str:
    """A prompt as plain text to be quoted: its one message, or a transcript with roles."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in prompt)


def _plain_talk(template: Template) -> str:
    """A conversation of plain words, rendered without a generation prompt; shorter if the template takes no more."""
    ask, answer = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}
    for talk in ([ask, answer, ask], [ask, answer], [ask]):
        try:
            return template.render(talk, generation=False)
        except TemplateError:
            if talk == [ask]:
                raise
    raise AssertionError  # the loop returns or raises
