"""The token ids of responses: those that a student drew, where these are kept, and else those of the text."""

from collections.abc import Sequence
from typing import Any

from pad_wire import Response
from pad_wire.chat import ChatEncoder


def ids_of(encoder: ChatEncoder, responses: Sequence[Response]) -> list[list[int]]:
    """Each response's ids after its prompt, with its end if it is finished: those of the student's likelihood."""
    rows = encoder.response_ids([each.text for each in responses], [each.finished for each in responses])
    return [drawn or row for drawn, row in zip(drawn_ids(encoder, responses), rows, strict=True)]


def drawn_ids(encoder: ChatEncoder, responses: Sequence[Response]) -> list[list[int] | None]:
    """The kept ids of each response; None if there are none, and if a student with another tokenizer drew them."""
    return [each.ids if each.ids and spell(encoder, each.ids, each) else None for each in responses]


def spell(encoder: ChatEncoder, ids: Sequence[int], response: Response) -> bool:
    """Whether the ids are tokens of this tokenizer, and spell the response up to its end."""
    tokenizer: Any = encoder.tokenizer
    if None in tokenizer.convert_ids_to_tokens(list(ids)):
        return False
    return spelled(encoder, ids[:-1] if response.finished else ids) == response.text


def spelled(encoder: ChatEncoder, ids: Sequence[int]) -> str:
    """The text of ids, without markup."""
    return encoder.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
