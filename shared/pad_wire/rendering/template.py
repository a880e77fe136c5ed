"""A model's own chat template, rendered: with a fixed date, given arguments, and refusals in the template's words."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# Llama 3.1 and 3.2 write this date if they are told none. A constant: replicas and restarts then agree.
DEFAULT_DATE = datetime.date(2024, 7, 26)
OWN_ARGUMENTS = (
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "strftime_now",
    "tokenize",
    "conversation",
)
MOST_WORDS = 200  # characters of a template's own message

Messages = Sequence[Mapping[str, str]]


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
    """The chat template is missing, has no end-of-turn token, refuses a conversation or leaves a message out.

    Attributes:
        message: number of the message that is at fault, if it is one.
    """

    def __init__(self, text: str, message: int | None = None) -> None:
        super().__init__(text)
        self.message = message


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a template reads besides the conversation: the date, and arguments such as ``enable_thinking``.

    ``file`` replaces the tokenizer's own template.
    """

    date: datetime.date = DEFAULT_DATE
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    file: Path | None = None

    @classmethod
    def of(cls, day: str | None, arguments: Any, file: Path | None = None) -> "TemplateOptions":
        """Options from settings, in which None stands for a default.

        Raises:
            ValueError: ``day`` is no date.
        """
        return cls(datetime.date.fromisoformat(day) if day else DEFAULT_DATE, arguments or {}, file)


@dataclass(frozen=True, slots=True)
class Template:
    """A tokenizer's chat template with its options."""

    tokenizer: Tokenizer
    options: TemplateOptions

    @classmethod
    def of(cls, tokenizer: Tokenizer, options: TemplateOptions) -> "Template":
        """Take the tokenizer's template, or set that of the options' file as its template.

        Raises:
            TemplateError: if the file cannot be read, if there is no template, several and none called
                ``default``, or it reads no such argument.
        """
        if options.file:
            tokenizer.chat_template = _read(options.file)
        template: Any = tokenizer.chat_template
        remedy = "give one with --chat-template FILE, or as chat_template.jinja in the model's directory"
        if not template:
            raise TemplateError(f"the tokenizer has no chat template; {remedy}")
        named: dict[str, str] = {**template} if isinstance(template, dict) else {"default": template}
        if "default" not in named:
            raise TemplateError(f"the tokenizer has the chat templates {', '.join(named)} and no default; {remedy}")
        text = " ".join(named.values())
        for name in options.arguments:
            if name in OWN_ARGUMENTS or not re.search(rf"\b{re.escape(name)}\b", text):
                raise TemplateError(f"the chat template takes no argument {name!r}")
        return cls(tokenizer, options)

    def render(self, messages: Messages, *, generation: bool) -> str:
        """The conversation as text, with the generation prompt or without.

        Raises:
            TemplateError: if the template refuses the conversation, with its own words.
        """
        try:
            return self.tokenizer.apply_chat_template(
                list(messages),
                add_generation_prompt=generation,
                tokenize=False,
                strftime_now=self.options.date.strftime,
                **self.options.arguments,
            )
        except Exception as error:  # templates raise jinja2 errors of their own making
            words = " ".join(str(error).split())[:MOST_WORDS]
            raise TemplateError(f"the model's chat template refuses this conversation: {words}") from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"--chat-template {file}: {' '.join(str(error).split())}") from None
