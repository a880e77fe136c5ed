"""What a checkpoint's own files say against the model, tokenizer or chat template that was loaded from them."""

import logging
from collections.abc import Collection
from typing import Literal, get_args

logger = logging.getLogger(__name__)

# Each can be allowed by name if it is known to do no harm. Some cannot, because no number of theirs is right: weights
# that are missing are random, and a template without the user's text gives all prompts one score.
FindingName = Literal[
    "unused-weights",
    "tokenizer-file",
    "tokenizer-round-trip",
    "template-prompt",
    "template-answer",
    "template-end",
]
FINDING_NAMES: tuple[FindingName, ...] = get_args(FindingName)


class NotAsSaved(ValueError):
    """What was loaded is not what was saved, so its numbers would not be the checkpoint's."""


def refuse_unless_allowed(name: FindingName, sentence: str, allow: Collection[str]) -> None:
    """Refuse a finding, in one line that says how to allow it; log it if it is allowed.

    Raises:
        NotAsSaved: unless ``name`` is among ``allow``.
    """
    if name in allow:
        logger.warning("%s", sentence)
    else:
        raise NotAsSaved(f"{sentence}; if you know that it does no harm, give --allow {name}")
