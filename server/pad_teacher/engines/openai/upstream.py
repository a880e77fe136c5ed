"""The client of an OpenAI-compatible chat API: one question, one request, and never a second try on its own."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
import openai

from pad_teacher.engines.base import EngineFailed
from pad_teacher.engines.openai.exchange import Exchanges, Interrupted
from pad_teacher.engines.openai.failures import refusal_of
from pad_teacher.engines.openai.replies import BadReply, ChatReply, label_probabilities, read_reply, vote
from pad_teacher.engines.openai.spending import Spending
from pad_teacher.engines.queries import ChatQuestion, FloatArray
from pad_teacher.errors import Refusal

TOPS = (20, 5)  # of the likeliest tokens: the most that OpenAI returns, and others
SOON = 5  # seconds until another process may serve
NO_KEY = "none"  # sent if there is no key file: the library does not go without
# A connection is kept so long: uvicorn, and so vLLM, closes an idle one after 5 seconds, and a request may cross it.
IDLE_SECONDS = 2

LimitName = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the model is, and how long and how much it may answer; the key is never shown."""

    url: str
    model: str
    timeout: float
    answer_tokens: int


class Upstream:
    """One model of one API; thread-safe.

    - A request is sent once: the client decides whether it asks again.
    - Redirects are not followed, so the key goes nowhere else.
    - ``answers_as`` is the name that the first reply gave to the model; a reply with another name is not used.
    - ``limit_name`` is this API's name for the limit of an answer's tokens, and ``top`` the likeliest tokens that it
      returns; the golden check finds them.

    Args:
        address: of the model.
        key: of the API; None if it needs none.
        spending: counts tokens.
    """

    def __init__(self, address: Address, key: str | None, spending: Spending) -> None:
        for name in ("openai", "httpx2"):  # they log each request, and questions, at lower levels
            logging.getLogger(name).setLevel(logging.WARNING)
        self.address = address
        self.spending = spending
        self.limit_name: LimitName = "max_tokens"
        self.top = TOPS[0]
        self.answers_as: str | None = None
        client = openai.AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=address.url,
            timeout=None,  # the whole exchange has a deadline
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, timeout=None, limits=httpx2.Limits(keepalive_expiry=IDLE_SECONDS)
            ),
        )
        self._exchanges = Exchanges(client, address.timeout)

    def ask(self, question: ChatQuestion) -> FloatArray:
        """The answer to a question, as ``ChatQuestion`` describes it.

        Raises:
            Refusal: if there is none.
            NotThisWay: if the upstream does not take this form of a request.
            EngineFailed: if the model has changed.
        """
        limit = 1 if question.vote is None else self.address.answer_tokens
        reserved = question.cost + limit
        day = self.spending.reserve(reserved)
        counted = reserved  # unless it is known better: without a reply, nobody knows whether it costs
        try:
            reply = self._send(question, limit)
            counted = reserved if reply.tokens is None else reply.tokens
        except openai.APIStatusError as error:
            counted = 0
            raise refusal_of(error) from None
        finally:
            self.spending.settle(day, reserved, counted)
        self._check_model(reply)
        read = label_probabilities if question.vote is None else vote
        return read(reply, question.labels)

    def interrupt(self) -> None:
        """End the requests under way, whose tokens stay counted; none is sent from now on."""
        self._exchanges.interrupt()

    def close(self) -> None:
        """Close the connections; requests under way fail."""
        self._exchanges.close()
        self.spending.close()

    def _send(self, question: ChatQuestion, limit: int) -> ChatReply:
        fields = self._fields(question, limit)
        try:
            return read_reply(self._exchanges.chat(fields))
        except TimeoutError:
            raise Refusal("deadline_exceeded", f"the upstream gave no answer in {self.address.timeout:g} s") from None
        except (openai.APIConnectionError, httpx2.HTTPError):
            raise Refusal("engine_failed", "the connection to the upstream failed") from None
        except Interrupted:
            raise Refusal("not_ready", "the teacher is shutting down", retry_after_s=SOON) from None
        except BadReply as error:
            raise Refusal("engine_failed", f"the upstream's reply is none of a chat API ({error})") from None

    def _fields(self, question: ChatQuestion, limit: int) -> dict[str, Any]:
        messages = [{"role": role, "content": content} for role, content in question.turns]
        # Temperature and top_p in words: the defaults of many servers come with the model, and cut the distribution.
        fields: dict[str, Any] = {"model": self.address.model, "temperature": 1, "top_p": 1, self.limit_name: limit}
        if question.begun:
            messages.append({"role": "assistant", "content": question.begun})
            fields["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        if question.vote is None:
            fields |= {"logprobs": True, "top_logprobs": self.top}
        return fields | {"messages": messages}

    def _check_model(self, reply: ChatReply) -> None:
        if self.answers_as is None:
            self.answers_as = reply.model
        if reply.model != self.answers_as:
            raise EngineFailed("the upstream answers under another model's name than before: it has been replaced")
