"""A template that leaves a message out is noticed, and one that shortens or quotes a text is not blamed."""

import pytest

from pad_wire import Message
from pad_wire.chat import ChatEncoder, TemplateError
from support.chat_kinds import CHATML, tokenizer_of

FORGETS = CHATML.replace("}{{ '<|im_start|>' + m", "}{% if m.role in known %}{{ '<|im_start|>' + m", 1).replace(
    "{% endfor", "{% endif %}{% endfor", 1
)


def encoder(*known: str) -> ChatEncoder:
    return ChatEncoder.of(tokenizer_of("byte level", f"{{% set known = {list(known)} %}}" + FORGETS))


def messages(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in turns]  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["developer", "tool", "system"])
def test_a_role_that_the_template_leaves_out_is_named(role: str) -> None:
    knows = encoder("user", "assistant")
    for text in ("Speak French.", "hi"):  # the second stands in the user's turn as well
        with pytest.raises(TemplateError, match=f"message 1, whose role is {role}") as refused:
            knows.prompt_ids(messages(("user", "hi"), (role, text)))
        assert refused.value.message == 1
    assert encoder("user", "assistant", role).prompt_ids(messages(("user", "hi"), (role, "hi")))


def test_a_begun_answer_does_not_hide_a_message_left_out() -> None:
    with pytest.raises(TemplateError, match="message 0, whose role is system"):
        encoder("user", "assistant").prefilled_ids(messages(("system", "x"), ("user", "hi")), "A")


@pytest.mark.parametrize("change", ["m.content | trim", "m.content | tojson", "m.content.split('</think>')[-1]"])
def test_a_template_may_trim_quote_or_shorten_a_text(change: str) -> None:
    changing = ChatEncoder.of(tokenizer_of("byte level", CHATML.replace("m.content", f"({change})")))
    assert changing.prompt_ids(messages(("user", " a\n</think>\nb ")))


def test_a_template_without_the_users_text_is_refused_at_once() -> None:
    with pytest.raises(TemplateError, match="leaves out the user's text"):
        ChatEncoder.of(tokenizer_of("byte level", "{{ '<|bot|>' }}"))


def test_a_template_for_single_requests_serves_single_requests() -> None:
    single = ChatEncoder.of(tokenizer_of("byte level", "{{ messages[0].content }}"))
    assert single.decode(single.prompt_ids("hi")) == "hi"
    assert single.response_ids(["Red"], [True])[0][-1] == single.tokenizer.eos_token_id
    assert "leaves out an assistant's turn" in single.place.note
    with pytest.raises(TemplateError, match="message 1"):
        single.prompt_ids(messages(("user", "a"), ("assistant", "b"), ("user", "c")))
