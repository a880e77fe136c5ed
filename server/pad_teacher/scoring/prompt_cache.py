"""Token ids of prompts that were rendered before: each round of a job sends its prompts again."""

import hashlib
from array import array
from collections import OrderedDict

from pad_wire import Prompt
from pad_wire.chat import ChatEncoder, as_messages

MAX_PROMPTS = 16_384
MAX_TOKENS = 2**22  # four bytes each, so that all of it stays near 20 MB


class PromptCache:
    """The least recently used go first. Not thread-safe: it belongs to the one thread that tokenises."""

    def __init__(self, max_prompts: int = MAX_PROMPTS, max_tokens: int = MAX_TOKENS) -> None:
        self._max_prompts = max_prompts
        self._max_tokens = max_tokens
        self._ids: OrderedDict[bytes, array[int]] = OrderedDict()
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, encoder: ChatEncoder, prompt: Prompt) -> list[int]:
        """Ids of the rendered prompt: a list of the caller's own.

        Raises:
            TemplateError: where the model's template refuses the conversation.
        """
        key = _digest(prompt)
        if key in self._ids:
            self._ids.move_to_end(key)
            return self._ids[key].tolist()
        ids = encoder.prompt_ids(prompt)
        if len(ids) <= self._max_tokens:
            self._ids[key] = array("I", ids)
            self.tokens += len(ids)
            while self.tokens > self._max_tokens or len(self._ids) > self._max_prompts:
                self.tokens -= len(self._ids.popitem(last=False)[1])
        return ids


def _digest(prompt: Prompt) -> bytes:
    """The prompt's exact content in 32 bytes: a text may be far longer than its ids."""
    digest = hashlib.blake2b(digest_size=32)
    for message in as_messages(prompt):
        for part in (message["role"], message["content"]):
            text = part.encode()
            digest.update(b"%d:" % len(text))  # so that no two conversations read the same
            digest.update(text)
    return digest.digest()
