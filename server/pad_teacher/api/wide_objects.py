"""Whether a JSON body has an object of very many fields, found in steps: reading one takes 100 ms in one call."""

import re

from pad_teacher.runtime.reading_thread import Steps

TOKENS_A_STEP = 1000  # less than a millisecond

# A string, and the colon if it is a field's name; one without an end takes the rest, so that nothing is read twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"(\s*+:)?|\\?\Z)|[{}]', re.DOTALL)


def has_wide_object(body: bytearray, most_fields: int) -> Steps[bool]:
    """Whether an object of ``body`` has more than ``most_fields`` fields. What is no JSON is left to others."""
    fields: list[int] = []  # of the objects that are open
    for number, token in enumerate(_TOKEN.finditer(body)):
        if not number % TOKENS_A_STEP:
            yield
        if token[0] == b"{":
            fields.append(0)
        elif not fields:
            return False
        elif token[0] == b"}":
            fields.pop()
        elif token[1]:
            fields[-1] += 1
            if fields[-1] > most_fields:
                return True
    return False
