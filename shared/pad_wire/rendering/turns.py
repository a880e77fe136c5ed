"""That a template writes the turns of every role in a conversation: it may leave a role out without a word."""

from collections.abc import Sequence

from pad_wire.rendering.template import Messages, Template, TemplateError

MOST_KNOWN = 10_000  # sequences of roles


class TurnCheck:
    """Finds turns that a template leaves out. Each sequence of roles is tried once, with words of its own."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._known: set[tuple[str, ...]] = set()

    def check(self, messages: Messages) -> None:
        """Try the roles of a conversation, if they were not tried yet.

        Raises:
            TemplateError: naming the first message whose role the template leaves out.
        """
        roles = tuple(message["role"] for message in messages)
        if roles not in self._known:
            self._try(roles)
            if len(self._known) < MOST_KNOWN:
                self._known.add(roles)

    def _try(self, roles: Sequence[str]) -> None:
        words = [f"pad-turn-{place}-" for place in range(len(roles))]
        tried = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        try:
            rendered = self._template.render(tried, generation=True)
        except TemplateError:
            return  # a template may refuse these words and take the conversation itself
        for place, word in enumerate(words):
            if word not in rendered:
                raise _left_out(place, roles[place])


def _left_out(place: int, role: str) -> TemplateError:
    return TemplateError(
        f"the model's chat template leaves out message {place}, whose role is {role}; give it a role that the"
        " template knows",
        place,
    )
