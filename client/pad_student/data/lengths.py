"""Whether texts fit so many tokens: most are so short that they need not be tokenised to know."""

from collections.abc import Sequence

from pad_student.data.drawn_ids import ids_of
from pad_wire import Prompt, Response
from pad_wire.chat import ChatEncoder

# NFKC, which some tokenizers normalise to, makes 33 bytes of 3. ASCII it leaves as it is.
MOST_TOKENS_A_BYTE = 11


def most_tokens(text: str) -> int:
    """A number that a text's tokens do not exceed: its bytes after normalisation, and a blank put in front."""
    return 1 + (len(text) if text.isascii() else MOST_TOKENS_A_BYTE * len(text.encode()))


def prompt_fits(encoder: ChatEncoder, prompt: Prompt, room: float) -> bool:
    """Whether the rendered prompt has at most ``room`` tokens.

    Raises:
        TemplateError: the chat template refuses the prompt.
    """
    text, hidden = encoder.rendered(prompt)
    return most_tokens(hidden.restored(text)) <= room or len(encoder.control.token_ids(text, hidden)) <= room


def set_fits(encoder: ChatEncoder, prompt: Prompt, responses: Sequence[Response], room: float) -> bool:
    """Whether the rendered prompt with any one of its responses has at most ``room`` tokens.

    Raises:
        TemplateError: the chat template refuses the prompt.
    """
    place = encoder.place
    bounds = [(most_tokens(f"{place.blank}{each.text}{place.close}") + 1, len(each.ids or ())) for each in responses]
    most = max(map(max, bounds))  # with the end of turn
    text, hidden = encoder.rendered(prompt)
    if most_tokens(hidden.restored(text)) + most <= room:
        return True
    rows = ids_of(encoder, responses)
    return len(encoder.control.token_ids(text, hidden)) + max(map(len, rows)) <= room
