"""The engine for a model behind a chat API: asks the upstream, in as many threads as it may have requests."""

import hashlib
import json
from collections.abc import Sequence

from pad_teacher.engines.base import Runtime
from pad_teacher.engines.openai.replies import NotThisWay
from pad_teacher.engines.openai.upstream import Upstream
from pad_teacher.engines.queries import Answer, ChatQuestion
from pad_teacher.errors import Refusal


class OpenAIEngine(Runtime):
    """Each question is a request of its own, so an answer is kept as soon as it is there."""

    name = "openai"
    mixes = False

    def __init__(self, upstream: Upstream, concurrency: int) -> None:
        self.upstream = upstream
        self.concurrent_batches = concurrency

    def score(self, queries: Sequence[ChatQuestion]) -> list[Answer | Refusal]:
        """See ``Runtime``."""
        return [self._answer(query) for query in queries]

    def digest(self) -> str:
        """See ``Runtime``. Nobody can see the weights: it covers the address, and the model's name in replies."""
        address = self.upstream.address
        parts = [address.url, address.model, self.upstream.answers_as, address.answer_tokens, self.upstream.top]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def interrupt(self) -> None:
        """See ``Runtime``."""
        self.upstream.interrupt()

    def close(self) -> None:
        """See ``Runtime``."""
        self.upstream.close()

    def _answer(self, question: ChatQuestion) -> Answer | Refusal:
        try:
            return [self.upstream.ask(question)]
        except Refusal as refusal:
            return refusal
        except NotThisWay as error:  # the golden check has passed: it is about this question
            return Refusal("template_refused", f"the upstream does not answer this question: {error}")
