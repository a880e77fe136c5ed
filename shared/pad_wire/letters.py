"""The letters of a multiple-choice question as token ids, and the question that a tokenizer can be asked."""

from pad_wire.chat import ChatEncoder, TemplateError
from pad_wire.question import PLAIN, QuestionForm
from pad_wire.scoring import LETTERS


class JoinedLetters(ValueError):
    """A tokenizer joins an option's letter with the end of the answer's beginning."""


def letter_ids(encoder: ChatEncoder, form: QuestionForm) -> list[int]:
    """Ids of A, B, … as the tokens that come next after the begun answer, as far as each is one of its own.

    Raises:
        JoinedLetters: if fewer than two letters are: a choice needs two.
        TemplateError: if the template refuses the question, or changes the beginning of its answer.
    """
    messages = form.messages("?", ["?", "?"])
    begun = encoder.prefilled_ids(messages, form.answer)
    if form.answer:
        after = [encoder.prefilled_ids(messages, form.answer + letter) for letter in LETTERS]
    else:
        after = [begun + ids for ids in encoder.response_ids(LETTERS, [False] * len(LETTERS))]
    ids: list[int] = []
    for whole in after:
        if whole[:-1] != begun or whole[-1] in ids:
            break
        ids.append(whole[-1])
    if len(ids) < 2:
        raise JoinedLetters(
            f"the tokenizer joins an option's letter with the end of {form.answer!r}, the answer's beginning; give"
            " --question FILE with another answer, such as one that ends in a blank, or an empty one"
        )
    return ids


def default_question(encoder: ChatEncoder) -> QuestionForm:
    """The default form, or the plain one where tokenizer or template cannot begin the default's answer.

    DeepSeek V3's tokenizer, for one, has tokens such as ``(A``.

    Raises:
        JoinedLetters: if a letter is no token of its own in the plain form either.
        TemplateError: if the template refuses the plain question, too.
    """
    try:
        found = letter_ids(encoder, QuestionForm())
    except (JoinedLetters, TemplateError):
        letter_ids(encoder, PLAIN)
        return PLAIN
    fewer = len(found) < len(LETTERS) and len(found) < len(letter_ids(encoder, PLAIN))
    return PLAIN if fewer else QuestionForm()
