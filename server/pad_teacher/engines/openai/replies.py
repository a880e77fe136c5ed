"""What is read of a chat API's reply: nothing is taken on trust, and no number stands in for a missing one."""

import math
import re
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator

from pad_teacher.engines.queries import FloatArray
from pad_wire.scoring import LETTERS

ROUNDING = 1e-4  # an API rounds log-probabilities: that of a certain token may lie just above 0

REST = 1e-6  # probabilities that sum to 1 up to their rounding leave so much

# A token is a spelling of a letter if only blanks and marks stand around it. The last two stand for a blank.
_AROUND = " \t\r\n\"'`“”‘’()[]{}<>*_#.:▁Ġ"
# An answer names a letter if nothing else is said before it, and no word goes on after it: "A good answer is B" does
# not name A, nor does "I'd say B" name I.
_NAMED = re.compile(r"[\s\"'`“‘(\[{<*_#]*([A-Z])(?:[)\]}>.:*_`\"”]|\s*\n|\s*$)")


class NotThisWay(Exception):
    """The API refuses this form of a request, or leaves out the part of a reply that it asks for."""


class BadReply(ValueError):
    """It is no reply of a chat API."""


class TopToken(BaseModel):
    """One of the likeliest first tokens."""

    token: str
    logprob: float

    @field_validator("logprob")
    @classmethod
    def _is_one(cls, value: float) -> float:
        if math.isnan(value) or value > ROUNDING:
            raise ValueError("no log-probability")
        return min(value, 0.0)


class TokenLogprobs(BaseModel):
    """One token of the answer, with the likeliest ones in its place."""

    top_logprobs: list[TopToken] = []


class Logprobs(BaseModel):
    """Of the answer's tokens."""

    content: list[TokenLogprobs] | None = None


class Said(BaseModel):
    """The model's turn."""

    content: str | None = None


class ChatChoice(BaseModel):
    """One answer."""

    message: Said
    logprobs: Logprobs | None = None


class TokensUsed(BaseModel):
    """What the API counts for a request, and asks money for."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class ChatReply(BaseModel):
    """A reply of ``/chat/completions``; further fields are of no interest."""

    model: str
    choices: list[ChatChoice] = Field(min_length=1)
    usage: TokensUsed | None = None

    @property
    def tokens(self) -> int | None:
        """Tokens that the API counts; None if it does not say."""
        return self.usage and self.usage.prompt_tokens + self.usage.completion_tokens


def read_reply(content: bytes) -> ChatReply:
    """Read a reply's body.

    Raises:
        BadReply: if it is none; the message repeats nothing of it.
    """
    try:
        return ChatReply.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadReply(f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['type']}") from None


def label_probabilities(reply: ChatReply, labels: int) -> FloatArray:
    """Probabilities of the first ``labels`` letters, summed over the spellings that were returned.

    Returns:
        [labels + 2]: of each letter; of all tokens that were not returned; and the least that was returned, which no
        other token exceeds.

    Raises:
        NotThisWay: if the reply has no log-probabilities.
    """
    logprobs = reply.choices[0].logprobs
    top = logprobs.content[0].top_logprobs if logprobs and logprobs.content else []
    if not top:
        raise NotThisWay("it returns no log-probabilities")
    found = np.zeros(labels + 2)
    chances = [math.exp(each.logprob) for each in top]
    for each, chance in zip(top, chances, strict=True):
        letter = letter_of_token(each.token)
        if letter is not None and letter < labels:
            found[letter] += chance
    found[labels] = max(REST, 1.0 - math.fsum(chances))
    found[labels + 1] = min(chances)
    return found.astype(np.float32)


def vote(reply: ChatReply, labels: int) -> FloatArray:
    """The letter that the answer names, as [labels]: 1 at its place; zeros if it names none, or one not shown."""
    found = np.zeros(labels, np.float32)
    letter = letter_of_answer(reply.choices[0].message.content or "")
    if letter is not None and letter < labels:
        found[letter] = 1.0
    return found


def letter_of_token(token: str) -> int | None:
    """The place of the letter that a first token spells; None if it spells none."""
    return _place(token.strip(_AROUND))


def letter_of_answer(text: str) -> int | None:
    """The place of the letter that a whole answer names; None if it names none for certain."""
    named = _NAMED.match(text)
    return _place(named[1]) if named else None


def _place(letter: str, letters: Sequence[str] = LETTERS) -> int | None:
    return letters.index(letter) if len(letter) == 1 and letter in letters else None
