"""Offsets of tokens point into the text, whatever the tokenizer makes a token of."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pad_teacher.scoring.token_texts import token_texts

LETTERS = "aAé東👍 \n"


@cache
def byte_level() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def sentence_piece() -> Any:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "A", "▁a", "é"]
    vocabulary = {piece: k for k, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
@given(text=st.text(LETTERS, min_size=1, max_size=12))
def test_text_from_an_offset_begins_with_the_token(make: Any, text: str) -> None:
    tokenizer = make()
    ids = tokenizer.encode(text).ids
    whole = tokenizer.decode(ids)
    texts, offsets = token_texts(ids, tokenizer.decode)
    assert offsets == sorted(offsets)
    for each, offset in zip(texts, offsets, strict=True):
        assert "\ufffd" in each or whole[offset : offset + len(each)] == each
        assert offset < max(1, len(whole))


def test_tokens_of_one_character_share_its_place() -> None:
    ids = byte_level().encode("a👍b").ids
    texts, offsets = token_texts(ids, byte_level().decode)
    assert offsets == [0, 1, 1, 1, 1, 2]
    assert (texts[0], texts[-1]) == ("a", "b")


def test_a_replacement_character_in_a_text_moves_no_other() -> None:
    text = "a\ufffdbc"
    ids = byte_level().encode(text).ids
    texts, offsets = token_texts(ids, byte_level().decode)
    assert [offset for offset, each in zip(offsets, texts, strict=True) if each in "bc"] == [2, 3]
