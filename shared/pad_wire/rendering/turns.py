"""That the text of every turn stands in the rendered conversation: a template may leave one out without a word."""

from collections.abc import Sequence

from pad_wire.rendering.template import Messages, Template, TemplateError

MOST_KNOWN = 10_000  # sequences of roles


class TurnCheck:
    """Finds turns that a template leaves out. Each sequence of roles is tried once, with words of its own."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._known: set[tuple[str, ...]] = set()

    def check(self, messages: Messages, rendered: str) -> None:
        """Compare a rendered conversation with its messages.

        Raises:
            TemplateError: naming the first message whose text does not reach the model.
        """
        roles = tuple(message["role"] for message in messages)
        if roles not in self._known:
            self._try(roles)
            if len(self._known) < MOST_KNOWN:
                self._known.add(roles)
        for place, message in enumerate(messages):
            text = message["content"].strip()
            if text not in rendered and not self._matters(messages, place):
                raise _left_out(place, message["role"])

    def _try(self, roles: Sequence[str]) -> None:
        words = [f"pad-turn-{place}-" for place in range(len(roles))]
        tried = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        try:
            rendered = self._template.render(tried, generation=True)
        except TemplateError:
            return  # these words are refused, and the conversation itself is not
        for place, word in enumerate(words):
            if word not in rendered:
                raise _left_out(place, roles[place])

    def _matters(self, messages: Messages, place: int) -> bool:
        """Whether another text at ``place`` is rendered otherwise: templates may quote, trim or shorten a text."""
        other = [dict(message) for message in messages]
        other[place]["content"] = "pad-other"
        try:
            return self._template.render(other, generation=True) != self._template.render(messages, generation=True)
        except TemplateError:
            return True


def _left_out(place: int, role: str) -> TemplateError:
    return TemplateError(
        f"the model's chat template leaves out message {place}, whose role is {role}; give it a role that the"
        " template knows",
        place,
    )
