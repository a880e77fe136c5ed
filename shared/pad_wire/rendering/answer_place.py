"""Where a chat template puts an answer: what it writes just before it, and what closes it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pad_wire.rendering.control_tokens import ControlTokens, HiddenText
from pad_wire.rendering.template import Messages, Template, TemplateError

PROBE = "pad-probe"
QUESTION = "Name-a-colour"
PLAIN = HiddenText(())


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """The place of an answer in a template, as it was found with a probe.

    Attributes:
        after_generation_prompt: whether an answer follows the generation prompt; if not, it follows what the
            template itself renders before an answer, such as an empty thinking block.
        blank: spaces that the template puts before an answer, and that its first token takes in.
        anchor: the last markup before an answer: its first token may depend on it.
        anchor_ids: the anchor's.
        close: text between a finished answer and its end of turn.
        end_of_turn: the token that closes a finished answer.
        end_is_written: whether the template writes it there; if not, it is ``eos_token``.
        next_turn: the control token that follows an answer at once if the talk goes on; empty if none does.
        note: what a reader should know of an unusual template; empty for most.
    """

    after_generation_prompt: bool
    blank: str
    anchor: str
    anchor_ids: Sequence[int]
    close: str
    end_of_turn: int
    end_is_written: bool = True
    next_turn: str = ""
    note: str = ""

    @classmethod
    def of(cls, template: Template, control: ControlTokens, ends: Collection[int]) -> "AnswerPlace":
        """Find the place by rendering a probe.

        Args:
            template: the model's.
            control: its control tokens.
            ends: tokens that the model declares as ends of its output.

        Raises:
            TemplateError: if the template leaves out the user's text, or nothing closes an answer.
        """
        asked = [{"role": "user", "content": QUESTION}]
        prompt = template.render(asked, generation=True)
        whole = template.render([*asked, {"role": "assistant", "content": PROBE}], generation=False)
        before, answered, after = whole.rpartition(PROBE)
        if prompt == template.render([{"role": "user", "content": PROBE}], generation=True):
            raise TemplateError(
                "the chat template leaves out the user's text; mend it, or give another with --chat-template FILE"
            )
        follows, blank, note = _start_of_answer(prompt, before) if answered else (True, "", _WITHOUT_ANSWERS)
        anchor = _anchor(prompt if follows else before.rstrip(" "), control)
        close, end, written, next_turn = _end_of_turn(template, control, asked, after if answered else "", ends)
        return cls(follows, blank, anchor, control.token_ids(anchor, PLAIN), close, end, written, next_turn, note)


_WITHOUT_ANSWERS = "the chat template leaves out an assistant's turn: conversations of several turns are refused"


def _start_of_answer(prompt: str, before: str) -> tuple[bool, str, str]:
    """Whether an answer follows the generation prompt, the spaces before it, and a note if it does not."""
    if before.startswith(prompt) and not before[len(prompt) :].strip(" "):
        return True, before[len(prompt) :], ""
    blank = before[len(before.rstrip(" ")) :]
    if before.startswith(prompt):
        note = f"the chat template writes {before[len(prompt) :]!r} between its generation prompt and an answer"
    else:
        shared = next((i for i, (a, b) in enumerate(zip(prompt, before, strict=False)) if a != b), len(before))
        note = f"the chat template's generation prompt ends in {prompt[shared:]!r}, which its answers do not follow"
    return False, blank, f"{note}: answers are sampled and scored as the template itself renders them"


def _anchor(before: str, control: ControlTokens) -> str:
    """The end of ``before`` from its last control token on, and after the user's text."""
    tail = before.rpartition(QUESTION)[2]
    found = control.places(tail)
    return tail[found[-1][1] :] if found else tail


def _end_of_turn(
    template: Template, control: ControlTokens, asked: Messages, after: str, ends: Collection[int]
) -> tuple[str, int, bool, str]:
    """The text and the token that close an answer, whether the template writes it, and what else it writes there.

    In Gemma and Llama 3 the token is not ``eos_token``.
    """
    if found := _first_end(control, after, control.special.union(ends)):
        return *found, True, ""
    # GLM closes an answer with the token of the next role, if the talk goes on.
    going_on = [*asked, {"role": "assistant", "content": PROBE}, *asked]
    try:
        _, answered, after = template.render(going_on, generation=False).rpartition(PROBE)
    except TemplateError:
        answered, after = "", ""
    if answered and (found := _first_end(control, after, frozenset(ends))):
        return *found, True, ""
    eos = template.tokenizer.eos_token_id
    if isinstance(eos, int):
        next_turn = next((control.spelling(token) for token, start, _ in control.places(after) if not start), "")
        return "", eos, False, next_turn
    raise TemplateError(
        "the chat template closes an answer with no special token, and there is no eos_token; name one in"
        " tokenizer_config.json"
    )


def _first_end(control: ControlTokens, after: str, ends: Collection[int]) -> tuple[str, int] | None:
    """The first end among the tokens after an answer, and the text before it."""
    for token, start, _ in control.places(after, more=ends):
        if token in ends:
            return after[:start], token
    return None
