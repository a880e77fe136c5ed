"""Each token's text and its place in the text of all: tokens that are parts of one character share its place."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # what a decoder writes for bytes that are no whole character
LONGEST_CHARACTER = 4  # tokens: one a byte


def token_texts(ids: Sequence[int], decode: Callable[[list[int]], str]) -> tuple[list[str], list[int]]:
    """The text of each token and its offset in ``decode(ids)``, in characters.

    A whole token's text is what it adds to the text of those before it: with a sentence-piece tokenizer it keeps its
    space. ``decode`` sees a few tokens at a time, so that the work grows with their number alone.
    """
    texts: list[str] = []
    offsets: list[int] = []
    start = read = length = 0  # where decoding begins, the first token not in the text yet, characters in the text
    for at, token in enumerate(ids):
        added = decode(list(ids[start : at + 1]))[len(decode(list(ids[start:read]))) :]
        alone = decode([token])
        part = at > read or INCOMPLETE in alone
        texts.append(alone if part else added)
        whole_again = part and at > read and INCOMPLETE not in alone and added.endswith(alone)
        offsets.append(length + len(added) - len(alone) if whole_again else length)
        if added.endswith(INCOMPLETE) and at - read + 1 < LONGEST_CHARACTER:
            continue
        length, start, read = length + len(added), read, at + 1
    return texts, offsets
