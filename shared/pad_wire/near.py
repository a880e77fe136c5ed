"""The known name that a misspelt or foreign one most likely means."""

import difflib
from collections.abc import Collection

MOST_CHARS = 40  # a longer name is no misspelling

# What other programs and data sets call ours.
_OTHER_NAMES = {
    **dict.fromkeys(("messages", "input", "query", "question", "instruction", "conversation"), "prompt"),
    **dict.fromkeys(("completions", "answers", "candidates", "outputs", "choices", "generations"), "responses"),
    **dict.fromkeys(("content", "completion", "response", "answer", "output"), "text"),
    **dict.fromkeys(("human", "prompter", "person"), "user"),
    **dict.fromkeys(("gpt", "bot", "model", "ai", "chatgpt"), "assistant"),
    **dict.fromkeys(("function", "ipython", "observation"), "tool"),
    **dict.fromkeys(("max_new_tokens", "max_completion_tokens"), "max_tokens"),
    **dict.fromkeys(("logprobs", "token_logprobs", "token_log_likelihoods"), "per_token"),
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """The one of ``known`` that ``name`` most likely means; None if it resembles none of them."""
    if len(name) > MOST_CHARS:
        return None
    other = _OTHER_NAMES.get(name.lower())
    if other in known:
        return other
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1, cutoff=0.7)
    return close[0] if close else None
