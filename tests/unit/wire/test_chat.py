"""Prompts and responses to token ids under a chat template."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_wire import Message
from pad_wire.chat import ChatEncoder, TemplateError, as_text
from support.fakes import byte_tokenizer

tokenizer = byte_tokenizer()
encoder = ChatEncoder.of(tokenizer)


def test_the_end_of_turn_is_the_templates_and_not_just_eos() -> None:
    other = byte_tokenizer()
    other.eos_token = "<|bos|>"
    assert ChatEncoder.of(other).end_of_turn == other.convert_tokens_to_ids("<|end|>")


def test_a_template_without_a_special_token_falls_back_to_eos() -> None:
    plain = byte_tokenizer()
    plain.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert ChatEncoder.of(plain).end_of_turn == plain.eos_token_id
    plain.eos_token = None
    with pytest.raises(TemplateError, match="no special token"):
        ChatEncoder.of(plain)


def test_a_tokenizer_without_a_template_is_refused_with_a_remedy() -> None:
    plain = byte_tokenizer()
    plain.chat_template = None
    with pytest.raises(TemplateError, match="--chat-template"):
        ChatEncoder.of(plain)


def test_a_plain_prompt_is_one_user_message() -> None:
    assert encoder.prompt_ids("hi") == encoder.prompt_ids([Message(role="user", content="hi")])


@given(st.text(min_size=1))
def test_a_response_is_tokenised_alone_and_may_end_its_turn(text: str) -> None:
    (finished,) = encoder.response_ids([text], [True])
    (cut,) = encoder.response_ids([text], [False])
    assert finished == [*cut, encoder.end_of_turn]
    if not any(token in text for token in tokenizer.all_special_tokens):
        assert encoder.decode(cut) == text


def test_a_prompt_is_quoted_as_its_text_or_as_a_transcript() -> None:
    assert as_text("hi") == as_text([Message(role="user", content="hi")]) == "hi"
    several = [Message(role="system", content="be kind"), Message(role="user", content="hi")]
    assert as_text(several) == "System: be kind\n\nUser: hi"
