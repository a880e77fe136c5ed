"""The routes of a vLLM server that sampling with a student's weights needs, and how they fail."""

from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import orjson
from pydantic import BaseModel, Field, ValidationError

from pad_student.errors import SamplingError
from pad_student.teacher.network.http import BadAddress, HttpAddress, NoReply, Transport

TIMEOUT = 1800.0  # seconds for one prompt's responses, or for loading all weights


class SamplerError(SamplingError):
    """The sampling server gave no usable answer."""


class SamplerUnreachable(SamplerError):
    """No server answers at the URL."""


class SamplerRefused(SamplerError):
    """The server refuses the weights, or a prompt."""


class SamplerNonsense(SamplerError):
    """The server's reply is not one of vLLM's."""


class StaleWeights(SamplerError):
    """The server did not sample with the student's weights."""


class _Logprobs(BaseModel):
    token_logprobs: list[float]


class Choice(BaseModel):
    """One response: its token ids, and their log-probabilities at temperature 1."""

    token_ids: list[int]
    logprobs: _Logprobs


class _Completion(BaseModel):
    choices: list[Choice]


class _Model(BaseModel):
    id: str
    max_model_len: int | None = None  # an adapter's card has none


class _Models(BaseModel):
    data: Annotated[list[_Model], Field(min_length=1)]


class _Version(BaseModel):
    weight_version: str


Reply = TypeVar("Reply", bound=BaseModel)


class VllmServer:
    """One vLLM server that was started with ``VLLM_SERVER_DEV_MODE=1``.

    - Every method but ``load`` may run in several threads.
    - ``version`` names the weights of the last ``load``; it is empty before the first.

    Raises:
        SamplerUnreachable: from the constructor if ``url`` is not an HTTP address, from methods if no server answers.
        SamplerRefused: from any method, with the server's own message.
        SamplerNonsense: from any method that reads a reply.
    """

    def __init__(self, url: str, transport: Transport | None = None) -> None:
        try:
            self._http = HttpAddress(url, "sampling server", transport=transport)
        except BadAddress as error:
            raise SamplerUnreachable(str(error)) from None
        self.name = f"the sampling server at {self._http.url}"
        self.version = ""

    def load(self, folder: Path) -> None:
        """Make the server load the weights in ``folder``, a path that is valid there too, as a new ``version``."""
        request = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        status, content = self._exchange("/collective_rpc", request)
        if status == 404:
            hint = "start vLLM with VLLM_SERVER_DEV_MODE=1 in its environment"
            raise SamplerRefused(f"{self.name} has no route to load weights: {hint}")
        if status != 200:
            raise SamplerRefused(
                f"{self.name} did not load the weights in {folder} ({_message(status, content)}): restart it with the"
                " student's own model, on a machine that sees this directory under the same name"
            )
        # A restarted server, or one that another run gave other weights, reports another version.
        self.version = uuid4().hex
        self._ask("/update_weight_version", {"new_version": self.version})

    def model(self, tokens: int) -> str:
        """The name of the server's model, whose context must hold ``tokens`` tokens."""
        model = self._read(_Models, self._ask("/v1/models")).data[0]
        if model.max_model_len is not None and model.max_model_len < tokens:
            raise SamplerRefused(
                f"{self.name} takes {model.max_model_len} tokens, and a prompt with its response needs {tokens}:"
                " start it with a larger --max-model-len, or lower max_response_tokens"
            )
        return model.id

    def complete(self, request: dict[str, Any]) -> list[Choice]:
        """The ``n`` responses to a completion request, with token ids and log-probabilities."""
        request = {**request, "logprobs": 0, "return_token_ids": True}
        choices = self._read(_Completion, self._ask("/v1/completions", request)).choices
        ends, most = set(request["stop_token_ids"]), request["max_tokens"]
        if len(choices) != request["n"] or not all(_is_whole(choice, ends, most) for choice in choices):
            raise SamplerNonsense(f"{self.name} sent other responses than were asked for; see its log")
        return choices

    def check_version(self) -> None:
        """Check that the server still has the weights of the last ``load``.

        Raises:
            StaleWeights: it has others.
        """
        if self._read(_Version, self._ask("/weight_info")).weight_version != self.version:
            raise StaleWeights(
                f"{self.name} was restarted or given other weights while it sampled: let it serve this run alone, and"
                " start the run again"
            )

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        status, content = self._exchange(path, body)
        if status != 200:
            raise SamplerRefused(f"{self.name} refused {path}: {_message(status, content)}")
        return content

    def _exchange(self, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        try:
            reply = self._http.exchange(path, None if body is None else orjson.dumps(body), TIMEOUT)
        except NoReply as error:
            raise SamplerUnreachable(str(error)) from None
        return reply.status, reply.content

    def _read(self, kind: type[Reply], content: bytes) -> Reply:
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            raise SamplerNonsense(f"{self.name} sent a reply of another form than vLLM's; see its log") from None


def _is_whole(choice: Choice, ends: set[int], most: int) -> bool:
    """Whether a response ends with its only end token, or at the greatest length."""
    ids = choice.token_ids
    ended = bool(ids) and ids[-1] in ends
    return (
        len(ids) == len(choice.logprobs.token_logprobs) <= most
        and not ends & set(ids[:-1])
        and (ended or len(ids) == most)
    )


def _message(status: int, content: bytes) -> str:
    """The server's own message in one short line."""
    try:
        text = str(orjson.loads(content)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = ""
    return " ".join(text.split())[:300] or f"HTTP status {status}"
