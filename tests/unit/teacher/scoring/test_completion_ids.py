"""Texts sent to ``/v1/completions`` get one BOS, whether the tokenizer or the text brings it."""

from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from pad_teacher.scoring.completions import text_ids
from support.fakes import byte_tokenizer

BOS = "<|bos|>"


@pytest.fixture(scope="module")
def adds_bos() -> Any:
    tokenizer = byte_tokenizer()
    bos = tokenizer.convert_tokens_to_ids(BOS)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return tokenizer


@pytest.mark.parametrize(("text", "count"), [("AB", 1), (f"{BOS}AB", 1), (f"A{BOS}B", 2), ("", 1)])
def test_a_text_that_begins_with_bos_gets_no_second(adds_bos: Any, text: str, count: int) -> None:
    ids = text_ids(adds_bos, text, add_special_tokens=True)
    assert ids.count(adds_bos.bos_token_id) == count


def test_without_special_tokens_a_text_is_taken_as_it_is(adds_bos: Any) -> None:
    assert text_ids(adds_bos, "AB", add_special_tokens=False) == adds_bos.encode("AB")[1:]


def test_a_tokenizer_without_automatic_bos_keeps_those_typed() -> None:
    tokenizer = byte_tokenizer()
    assert text_ids(tokenizer, f"{BOS}{BOS}A", add_special_tokens=True).count(tokenizer.bos_token_id) == 2
