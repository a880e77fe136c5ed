"""The rule by which both sides turn a prompt and a response into token ids under a model's own tokenizer.

- The prompt is rendered with the model's own chat template and its generation prompt.
- The response is tokenised on its own, so its ids never depend on the prompt. Special tokens in it are plain text.
- A finished response ends with the end-of-turn token, which is scored too (PAD, arXiv 2502.14272, equation 7).

Nothing here imports a tokenizer library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pad_wire.sets import Message, Prompt

_PROBE = "pad-probe"


class Tokenizer(Protocol):
    """The members of a Hugging Face tokenizer that the rule needs."""

    chat_template: Any
    eos_token_id: Any
    added_tokens_decoder: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation to text or ids."""
        ...

    def __call__(self, text: Any, **options: Any) -> Any:
        """Tokenise one text or a list of texts."""
        ...

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Text of token ids."""
        ...


class TemplateError(ValueError):
    """The chat template is missing, has no end-of-turn token, or refuses a conversation."""


@dataclass(frozen=True, slots=True)
class ChatEncoder:
    """A tokenizer, and the end-of-turn token with which its chat template closes an answer."""

    tokenizer: Tokenizer
    end_of_turn: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "ChatEncoder":
        """Read the end-of-turn token from the template.

        Raises:
            TemplateError: if there is no chat template, or it closes an answer with no special token.

        """
        if not tokenizer.chat_template:
            raise TemplateError("the tokenizer has no chat template; give it one with --chat-template FILE")
        return cls(tokenizer, _end_of_turn(tokenizer))

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Ids of the rendered prompt, generation prompt included; a plain string is one user message.

        Raises:
            TemplateError: if the model's template refuses the conversation, for example an unknown role.

        """
        try:
            return list(
                self.tokenizer.apply_chat_template(
                    as_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=False
                )
            )
        except Exception as error:  # templates raise jinja2 errors of their own making
            raise TemplateError("the model's chat template refuses this conversation") from error

    def prefilled_ids(self, prompt: Prompt, answer: str) -> list[int]:
        """Ids of the rendered prompt and of an assistant's turn that has begun with ``answer`` and goes on.

        The turn is rendered whole and cut after ``answer``, so it stands where the template itself puts an answer:
        after an empty thinking block or a channel header, say, and untouched by templates that trim.

        Raises:
            TemplateError: if the model's template refuses the conversation, or changes the answer's text.
        """
        if not answer:
            return self.prompt_ids(prompt)
        turn = {"role": "assistant", "content": answer + _PROBE}
        try:
            text: str = self.tokenizer.apply_chat_template([*as_messages(prompt), turn], tokenize=False)
        except Exception as error:  # templates raise jinja2 errors of their own making
            raise TemplateError("the model's chat template refuses this conversation") from error
        begun, probe, _ = text.rpartition(_PROBE)
        if not probe or not begun.endswith(answer):
            raise TemplateError("the model's chat template changes the text of an answer that has begun")
        return list(self.tokenizer(begun, add_special_tokens=False)["input_ids"])

    def response_ids(self, texts: Sequence[str], finished: Sequence[bool]) -> list[list[int]]:
        """Ids of each response, tokenised on its own. A finished response ends with the end-of-turn token."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [[*ids, self.end_of_turn] if done else list(ids) for ids, done in zip(encoded, finished, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens included and spaces as they are."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


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


def _end_of_turn(tokenizer: Tokenizer) -> int:
    """The first special token after an assistant's answer. In Gemma and Llama 3 it is not ``eos_token``."""
    conversation = [Message(role="user", content="?"), Message(role="assistant", content=_PROBE)]
    text: str = tokenizer.apply_chat_template(as_messages(conversation), tokenize=False)
    tail: list[int] = tokenizer(text.rpartition(_PROBE)[2], add_special_tokens=False)["input_ids"]
    # Not all_special_ids: that lists only the tokens with a named role, which an end of turn need not have.
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    special = [token for token in tail if token in added and added[token].special]
    if special:
        return special[0]
    if isinstance(tokenizer.eos_token_id, int):
        return tokenizer.eos_token_id
    raise TemplateError("the chat template closes an answer with no special token, and there is no eos_token")
