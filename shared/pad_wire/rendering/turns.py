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
        try:
            place = self._left_out(roles)
        except TemplateError:
            return  # a template may refuse these words and take the conversation itself
        if place is not None:
            raise TemplateError(
                f"the model's chat template leaves out message {place}, whose role is {roles[place]}; give it a role"
                " that the template knows",
                place,
            )

    def _left_out(self, roles: Sequence[str]) -> int | None:
        """The place of the first message whose text makes no difference."""
        words = [f"pad-turn-{place}-" for place in range(len(roles))]
        rendered = self._rendered(roles, words)
        for place, word in enumerate(words):
            # A template may write a word otherwise, in capitals say.
            if word not in rendered:
                others = [*words[:place], "pad-other-turn-", *words[place + 1 :]]
                if rendered == self._rendered(roles, others):
                    return place
        return None

    def _rendered(self, roles: Sequence[str], words: Sequence[str]) -> str:
        tried = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        return self._template.render(tried, generation=True)
