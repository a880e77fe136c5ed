"""Whether a text fits is exact at the limit, and costs no tokenising far from it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pad_student.data import lengths
from pad_student.data.lengths import most_tokens, prompt_fits, set_fits
from pad_wire import Response
from pad_wire.chat import ChatEncoder
from support.tiny_student import tiny_encoder


def byte_level(normalizer: Any) -> PreTrainedTokenizerFast:
    alphabet = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


LONGEST = [byte_level(form) for form in (normalizers.NFC(), normalizers.NFKC(), normalizers.NFKD())]


@given(st.text(max_size=20))
def test_no_tokenizer_makes_more_tokens_than_the_most(text: str) -> None:
    for text_or_ligature in (text, text + "\ufdfa"):
        for tokenizer in LONGEST:
            assert len(tokenizer(text_or_ligature)["input_ids"]) <= most_tokens(text_or_ligature)


@pytest.mark.parametrize("text", ["hi", "né", "a<|end|>b"])
def test_a_prompt_fits_to_the_token(text: str) -> None:
    encoder = tiny_encoder()
    exact = len(encoder.prompt_ids(text))
    assert prompt_fits(encoder, text, exact)
    assert not prompt_fits(encoder, text, exact - 1)


@pytest.mark.parametrize("finished", [True, False])
def test_a_set_fits_to_the_token_of_its_longest_response(finished: bool) -> None:
    encoder = tiny_encoder()
    texts = ["a", "longer é", "b"]
    responses = [Response(text=text, finished=finished) for text in texts]
    rows = encoder.response_ids(texts, [finished] * 3)
    exact = len(encoder.prompt_ids("hi")) + max(map(len, rows))
    assert set_fits(encoder, "hi", responses, exact)
    assert not set_fits(encoder, "hi", responses, exact - 1)


def test_short_texts_are_not_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder()
    monkeypatch.setattr(type(encoder.control), "token_ids", None)
    monkeypatch.setattr(ChatEncoder, "response_ids", None)
    assert prompt_fits(encoder, "hi", 1000)
    assert set_fits(encoder, "hi", [Response(text="yes")], 1000)
    assert lengths.most_tokens("hi") == 3
