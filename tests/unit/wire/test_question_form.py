"""The form of the question: what it fills in, what it refuses, and where its answer begins."""

import pytest
from pydantic import ValidationError

from pad_wire.chat import ChatEncoder, TemplateError
from pad_wire.question import QuestionForm
from support.fakes import byte_tokenizer


def test_braces_in_a_request_or_response_stay_text() -> None:
    (message,) = QuestionForm().messages("say {options} and {letter}", ["{text}", "{request} {x}"])
    assert message.content.startswith("say {options} and {letter}\n\n")
    assert '(A) "{text}"\n\n(B) "{request} {x}"' in message.content


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "{options}"},
        {"user": "{request} {options} {options}"},
        {"option": "({letter})"},
        {"answer": 3},
        {"systems": "x"},
    ],
)
def test_a_form_without_its_marks_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        QuestionForm.model_validate(wrong)


TEMPLATES = {
    "plain": "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}",
    "trims": "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}<end>{% endfor %}",
    "thinks": "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}<think></think>{% endif %}"
    "{{ m['content'] }}<end>{% endfor %}",
}


@pytest.mark.parametrize(
    ("template", "begun"), [("plain", "so: ("), ("trims", "so: ("), ("thinks", "so: ("), ("trims", "so: ")]
)
def test_an_answer_begins_where_the_template_puts_it(template: str, begun: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[template]
    encoder = ChatEncoder.of(tokenizer)
    thought = "<think></think>" if template == "thinks" else ""
    assert encoder.decode(encoder.prefilled_ids("hi", begun)) == f"<user>hi<end><assistant>{thought}{begun}"


def test_a_template_that_changes_the_answer_is_refused() -> None:
    tokenizer = byte_tokenizer()
    encoder = ChatEncoder.of(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(TemplateError):
        encoder.prefilled_ids("hi", "so: (")


def test_a_question_shows_options_after_their_letters() -> None:
    (message,) = QuestionForm().messages("Why?", ["so", "because"])
    text = message.content
    assert text.index("Why?") < text.index('(A) "so"') < text.index('(B) "because"') < text.index("Which response")


def test_a_system_text_stands_first() -> None:
    roles = [message.role for message in QuestionForm(system="be strict").messages("?", ["a", "b"])]
    assert roles == ["system", "user"]
