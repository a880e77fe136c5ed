"""Whether two tokenizers give the same ids: their vocabulary, merges and special tokens, and a digest of these."""

import hashlib
import json
from typing import Any


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of the tokens and their ids, the merges, and the special tokens of a fast tokenizer.

    The chat template is not in it, nor settings that versions of the library write differently.
    """
    return hashlib.sha256(json.dumps(_parts(tokenizer)).encode()).hexdigest()[:32]


def why_not_same_tokenizer(tokenizer: Any, other: Any) -> str | None:
    """The first thing in which two fast tokenizers differ, in a few words; None if they give the same ids."""
    ours, theirs = _parts(tokenizer), _parts(other)
    for name in ours:
        if ours[name] != theirs[name]:
            differ = len({*map(tuple, ours[name])} ^ {*map(tuple, theirs[name])})
            return f"{differ} entries of its {name} differ" if differ else f"its {name} stand in another order"
    return None


def _parts(tokenizer: Any) -> dict[str, list[list[Any]]]:
    written: Any = json.loads(tokenizer.backend_tokenizer.to_str())
    given: list[Any] = written["model"].get("merges") or []
    merges: list[Any] = [merge.split(" ") if isinstance(merge, str) else merge for merge in given]
    special = sorted([each["content"]] for each in written["added_tokens"] if each["special"])
    vocabulary = sorted([token, index] for token, index in tokenizer.get_vocab().items())
    return {"vocabulary": vocabulary, "merges": merges, "special tokens": special}
