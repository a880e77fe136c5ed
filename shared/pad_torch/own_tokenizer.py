"""Loads a tokenizer, and makes sure that its ids are those of the checkpoint's own ``tokenizer.json``."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from pad_torch.checkpoint import refuse_gguf
from pad_torch.findings import NotAsSaved, refuse_unless_allowed

logger = logging.getLogger(__name__)

HARD_TEXTS = (
    "Hello, world!",
    "two  spaces,\ta tab,\n\na blank line",
    "naïve café, Straße, ÅNGSTRÖM, Ελλάδα, Привет",
    "你好，世界。東京",
    "👍🏽 and 👨‍👩‍👧",
    "def f(x):\n    return x ** 2  # 3.14, 1,000",
    "ALL CAPS and MiXeD 12345",
)


def load_tokenizer(name: str, *, revision: str | None = None, allow: Collection[str] = ()) -> Any:
    """Load the tokenizer of a directory or a Hub id.

    A checkpoint may name a tokenizer class that makes other ids out of its file than the file itself. Then the file
    is taken.

    Raises:
        OSError: if there is no such model.
        NotAsSaved: if its ids are not the file's, or decoding them does not give the text back; see ``findings``.
        ValueError: for a GGUF file.
    """
    refuse_gguf(name)
    path = _file(name, revision)
    tokenizers: Any = AutoTokenizer
    try:
        tokenizer = tokenizers.from_pretrained(name, revision=revision)
    except OSError:
        raise
    except Exception as error:  # transformers and tokenizers raise bare ones
        reason = " ".join(str(error).split())[:200]
        raise NotAsSaved(f"the tokenizer of {name} cannot be read ({reason}); correct tokenizer_class") from error
    if path is not None:
        tokenizer = _of_the_file(name, revision, tokenizer, path, allow)
    if (lost := _lost_text(tokenizer)) is not None:
        sentence = f"the tokenizer of {name} does not give {lost!r} back, so different texts may have one score"
        refuse_unless_allowed("tokenizer-round-trip", sentence, allow)
    return tokenizer


def _file(name: str, revision: str | None) -> Path | None:
    """The checkpoint's ``tokenizer.json``; None if it has none."""
    if Path(name).is_dir():
        path = Path(name) / "tokenizer.json"
        return path if path.is_file() else None
    found: Any = cached_file(
        name,
        "tokenizer.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return Path(found) if found else None


def _of_the_file(name: str, revision: str | None, tokenizer: Any, path: Path, allow: Collection[str]) -> Any:
    wanted = _ids_of_file(path)
    if _ids(tokenizer) == wanted:
        return tokenizer
    plain: Any = PreTrainedTokenizerFast
    again = plain.from_pretrained(name, revision=revision)
    if _ids(again) == wanted:
        logger.warning("%s: %s makes other ids than tokenizer.json; the file is used", name, type(tokenizer).__name__)
        return again
    sentence = (
        f"the tokenizer of {name} makes other ids than its tokenizer.json; correct tokenizer_class in its config"
    )
    refuse_unless_allowed("tokenizer-file", sentence, allow)
    return tokenizer


def _ids_of_file(path: Path) -> list[list[int]]:
    file = Tokenizer.from_file(str(path))
    file.no_padding()
    file.no_truncation()
    return [file.encode(text, add_special_tokens=False).ids for text in HARD_TEXTS]


def _ids(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in HARD_TEXTS]


def _lost_text(tokenizer: Any) -> str | None:
    """The first hard text that does not come back; a blank that sentence-piece puts in front is no loss."""
    for text, ids in zip(HARD_TEXTS, _ids(tokenizer), strict=True):
        if tokenizer.decode(ids, clean_up_tokenization_spaces=False).removeprefix(" ") != text:
            return text
    return None


# pyright: standard
