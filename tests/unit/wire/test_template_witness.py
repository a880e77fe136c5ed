"""Hard conversations show what a chat template loses or changes, and leave the common families alone."""

import pytest

from pad_wire import Message
from pad_wire.chat import ChatEncoder
from pad_wire.rendering.witness import Finding, findings
from support.chat_kinds import CHATML, TEMPLATES, tokenizer_of


def found(template: str, ends: list[str] | None = None) -> list[Finding]:
    tokenizer = tokenizer_of("byte level", template)
    encoder = ChatEncoder.of(tokenizer, ends=[tokenizer.convert_tokens_to_ids(text) for text in ends or []])
    return list(findings(encoder.template, encoder.place))


def of_role(role: str, change: str) -> str:
    return CHATML.replace("m.content", f"(m.content | {change} if m.role == '{role}' else m.content)")


@pytest.mark.parametrize("template", ["chatml", "zephyr", "llama2", "thinking", "glm"])
def test_common_templates_have_no_findings(template: str) -> None:
    assert not found(template, ends=["<|user|>"])
    assert not found(TEMPLATES[template].replace("m.content", "(m.content | trim)"), ends=["<|user|>"])


@pytest.mark.parametrize(
    "change", ["lower", "striptags", "replace('ï', 'i')", "truncate(300)", "replace('\\n', ' ')"]
)
@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_two_prompts_written_alike_are_found(change: str, role: str) -> None:
    names = [each.name for each in found(of_role(role, change))]
    assert names == ["template-prompt", "template-answer"] if role == "assistant" else ["template-prompt"]


def test_a_prompt_may_be_quoted_but_an_answer_may_not() -> None:
    assert not found(of_role("user", "tojson"))
    (finding,) = found(of_role("assistant", "tojson"))
    assert finding.name == "template-answer"
    assert "--chat-template FILE" in finding.sentence


def test_an_answer_may_not_change_what_closes_it() -> None:
    closing = CHATML.replace("+ '<|im_end|>\n'", "+ ('<|im_end|>\n' if '\n' not in m.content else '')")
    assert closing != CHATML
    assert [each.name for each in found(closing)] == ["template-answer"]


def test_an_end_that_nothing_declares_is_found() -> None:
    (finding,) = found("glm")
    assert finding.name == "template-end"
    assert "'<|user|>'" in finding.sentence
    assert not found("glm", ends=["<|user|>"])
    assert not found("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")


def test_a_template_in_capitals_leaves_no_turn_out() -> None:
    loud = ChatEncoder.of(tokenizer_of("byte level", CHATML.replace("m.content", "(m.content | upper)")))
    assert loud.prompt_ids([Message(role="system", content="a"), Message(role="user", content="b")])
