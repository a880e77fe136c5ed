"""Token ids of prompts that were rendered before: each round of a job sends its prompts again."""

import hashlib
import sys
from array import array
from contextlib import suppress

from cachetools import LRUCache

from pad_wire import Prompt
from pad_wire.chat import ChatEncoder, as_messages

MAX_BYTES = 20 * 2**20
ENTRY_BYTES = 200  # of a key, and of its places in the cache's dictionaries


class PromptCache:
    """Token ids by prompt; the least recently used are dropped first. Belongs to the reading thread."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._ids: LRUCache[bytes, array[int]] = LRUCache(
            max_bytes, getsizeof=lambda ids: sys.getsizeof(ids) + ENTRY_BYTES
        )

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, encoder: ChatEncoder, prompt: Prompt) -> list[int]:
        """Token ids of the rendered prompt, in a new list.

        Raises:
            TemplateError: if the model's template refuses the conversation.
        """
        key = _digest(prompt)
        if key in self._ids:
            return self._ids[key].tolist()
        ids = encoder.prompt_ids(prompt)
        with suppress(ValueError):  # it is larger than the whole cache
            self._ids[key] = array("I", ids)
        return ids


def _digest(prompt: Prompt) -> bytes:
    """The prompt's exact content in 32 bytes: a text may be far longer than its ids."""
    digest = hashlib.blake2b(digest_size=32)
    for message in as_messages(prompt):
        for part in (message["role"], message["content"]):
            text = part.encode()
            digest.update(b"%d:" % len(text))  # so that different conversations never give the same bytes
            digest.update(text)
    return digest.digest()
