"""Where a template puts an answer, and what closes it."""

import datetime
from pathlib import Path

import pytest

from pad_wire import Message
from pad_wire.chat import ChatEncoder, TemplateError, TemplateOptions
from support.chat_kinds import CHATML, GLM, THINKING, by_transformers, tokenizer_of


def tokens(encoder: ChatEncoder, ids: list[int]) -> list[str]:
    return encoder.tokenizer.convert_ids_to_tokens(ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["prepend", "metaspace first"])
def test_no_blank_is_put_before_a_word_after_a_line_break(kind: str) -> None:
    encoder = ChatEncoder.of(tokenizer_of(kind, "zephyr"))
    assert tokens(encoder, encoder.response_ids(["Red"], [True])[0]) == ["Red", "</s>"]


def test_the_blank_of_the_template_is_part_of_the_first_word() -> None:
    encoder = ChatEncoder.of(tokenizer_of("prepend", "llama2"))
    assert tokens(encoder, encoder.response_ids(["Red"], [True])[0]) == ["▁Red", "▁", "</s>"]
    assert encoder.response_ids([" Red"], [False]) == encoder.response_ids(["Red"], [False])
    assert encoder.response_ids([""], [False]) == [[]]


def test_the_next_roles_token_ends_an_answer_if_it_is_declared() -> None:
    tokenizer = tokenizer_of("byte level", "glm")
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    assert ChatEncoder.of(tokenizer, ends=[user]).end_of_turn == user
    assert ChatEncoder.of(tokenizer).end_of_turn == tokenizer.eos_token_id
    asking = {"role": "user", "content": "Red?"}
    whole = by_transformers(tokenizer, [asking, {"role": "assistant", "content": "Red"}, asking])
    encoder = ChatEncoder.of(tokenizer, ends=[user])
    ids = encoder.prompt_ids("Red?") + encoder.response_ids(["Red"], [True])[0]
    assert whole[: len(ids)] == ids


def test_the_templates_own_end_goes_before_a_declared_one() -> None:
    tokenizer = tokenizer_of("byte level", "chatml")
    encoder = ChatEncoder.of(tokenizer, ends=[tokenizer.convert_tokens_to_ids("<|user|>")])
    assert encoder.end_of_turn == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_an_answer_follows_what_the_template_puts_before_it() -> None:
    encoder = ChatEncoder.of(tokenizer_of("byte level", "thinking"))
    assert encoder.decode(encoder.prompt_ids("Red?")).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert "<think>" in encoder.place.note
    assert encoder.prefilled_ids("Red?", "A") == encoder.prompt_ids("Red?") + encoder.response_ids(["A"], [False])[0]
    sure = ChatEncoder.of(encoder.tokenizer, TemplateOptions(arguments={"enable_thinking": False}))
    assert sure.prompt_ids("Red?") == encoder.prompt_ids("Red?")
    assert sure.place.note == ""


def test_what_answers_do_not_follow_is_left_out_of_the_prompt() -> None:
    template = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>' }}{% endif")
    encoder = ChatEncoder.of(tokenizer_of("byte level", template))
    assert encoder.decode(encoder.prompt_ids("Red?")).endswith("<|im_start|>assistant\n")
    assert "'<think>'" in encoder.place.note


def test_several_templates_without_a_default_are_named() -> None:
    tokenizer = tokenizer_of("byte level", "chatml")
    tokenizer.chat_template = {"chat": CHATML, "rag": CHATML}
    with pytest.raises(TemplateError, match="chat templates chat, rag and no default"):
        ChatEncoder.of(tokenizer)
    tokenizer.chat_template = {"default": CHATML, "rag": GLM}
    assert ChatEncoder.of(tokenizer).end_of_turn == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_refusal_has_the_templates_own_words() -> None:
    rule = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message here') }}{% endif %}"
    encoder = ChatEncoder.of(tokenizer_of("byte level", rule + CHATML))
    with pytest.raises(TemplateError, match="refuses this conversation: no system message here"):
        encoder.prompt_ids([Message(role="system", content="x")])


def test_the_date_of_a_template_is_fixed() -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + CHATML
    tokenizer = tokenizer_of("byte level", template)
    other = TemplateOptions(datetime.date(2031, 2, 3))
    assert encoder_text(ChatEncoder.of(tokenizer)).startswith("26 Jul 2024")
    assert encoder_text(ChatEncoder.of(tokenizer, other)).startswith("03 Feb 2031")
    assert ChatEncoder.of(tokenizer).describe() != ChatEncoder.of(tokenizer, other).describe()


def encoder_text(encoder: ChatEncoder) -> str:
    return encoder.decode(encoder.prompt_ids("hi"))


def test_an_argument_that_the_template_does_not_read_is_refused() -> None:
    tokenizer = tokenizer_of("byte level", THINKING)
    for wrong in ("enable_thinkin", "messages", "strftime_now"):
        with pytest.raises(TemplateError, match=f"takes no argument '{wrong}'"):
            ChatEncoder.of(tokenizer, TemplateOptions(arguments={wrong: False}))


def test_a_template_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    ids: list[list[int]] = []
    for mark in (b"", b"\xef\xbb\xbf"):
        file = tmp_path / "template.jinja"
        file.write_bytes(mark + CHATML.encode())
        tokenizer = tokenizer_of("byte level", "llama2")
        ids.append(ChatEncoder.of(tokenizer, TemplateOptions(file=file)).prompt_ids("hi"))
    assert ids[0] == ids[1]
    with pytest.raises(TemplateError, match=r"--chat-template .*none\.jinja"):
        ChatEncoder.of(tokenizer_of("byte level", "llama2"), TemplateOptions(file=tmp_path / "none.jinja"))
