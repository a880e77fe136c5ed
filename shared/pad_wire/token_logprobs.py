"""Request and reply of ``/v1/token_logprobs``: the distribution over the next token at each scored token.

Both go as JSON, or as safetensors: ragged tensors over the N scored tokens of all responses in order, no padding.

    offsets u32 [R+1] · token_ids u32 [N] · token_logprobs f32 [N] · top_ids u32 [N, K] · top_logprobs [N, K] ·
    rest f32 [N] · reference_token_logprobs f32 [N] · reference_logprobs [N, K] · reference_rest f32 [N]

``top_logprobs`` and ``reference_logprobs`` are f32, or f16 if the request says so. The metadata of such a reply are
texts: ``model``, ``fingerprint``, ``reference_model``, ``reference_fingerprint``, ``tokenizer``, and as JSON ``ids``
(of the sets), ``responses`` (of each set), ``truncated`` (numbers of responses) and ``usage``. A request has the
tensor ``at`` u32 [N, K], and its other fields as JSON in the metadata ``request``.
"""

from typing import Annotated, Literal

from pydantic import Field

from pad_wire.scoring import ScoringRequest, Usage
from pad_wire.sets import TeacherId
from pad_wire.text import WireModel

SAFETENSORS = "application/vnd.safetensors"
MAX_TOP = 256  # ids named at a token
USUAL_TOP = 50
MAX_JSON_NUMBERS = 50_000  # of a reply as JSON: below 1 MB

Values = Literal["float32", "float16"]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(fail_fast=True, min_length=1, max_length=MAX_TOP)]


class TokenLogprobsRequest(ScoringRequest):
    """Ask for the log-probabilities of the ``top`` likeliest tokens at each scored token, or of the ids in ``at``.

    ``at`` has a list of ids for each scored token of each response of each set, all of one length. ``reference`` asks
    for those of the teacher's reference at the same ids. ``vocabulary`` is the number of tokens that the client's
    model has, if it has fewer: ids from there on are part of the rest.
    """

    top: int = Field(default=USUAL_TOP, ge=1, le=MAX_TOP, description="K, the likeliest tokens at each scored token")
    at: list[list[list[Ids]]] | None = Field(
        default=None, description="ids for each scored token of each response of each set, in the place of top"
    )
    reference: bool = Field(default=False, description="ask the reference too, at the same ids")
    values: Values = Field(default="float32", description="dtype of the tables in a safetensors reply")
    vocabulary: int | None = Field(default=None, ge=2, description="tokens of the client's model, if it has fewer")


class TokenLogprobs(WireModel):
    """One response of T scored tokens, in nats: ``rest`` is the log of what the K named ids leave.

    The fields are [T] or [T, K].
    """

    token_ids: list[int] = Field(description="the scored tokens, [T]")
    token_logprobs: list[float] = Field(description="log-probability of each, [T]")
    top_ids: list[list[int]] = Field(description="the named ids, likeliest first or as asked, [T, K]")
    top_logprobs: list[list[float]] = Field(description="their log-probabilities, [T, K]")
    rest: list[float] = Field(description="log of the probability of all other ids, [T]")
    reference_token_logprobs: list[float] | None = Field(
        default=None, description="the reference's log-probability of each scored token, [T]"
    )
    reference_logprobs: list[list[float]] | None = Field(
        default=None, description="the reference's at the named ids, [T, K]"
    )
    reference_rest: list[float] | None = Field(default=None, description="the reference's rest, [T]")
    truncated: bool | None = Field(default=None, description="whether the response was cut to fit the context")


class TokenLogprobsSet(WireModel):
    """One set, in the order of its responses."""

    id: str = Field(description="as asked")
    responses: list[TokenLogprobs] = Field(description="in the order of the set's responses")


class TokenLogprobsReply(WireModel):
    """Reply of ``/v1/token_logprobs``; ``tokenizer`` is the digest by which client and teacher compare theirs."""

    teacher: TeacherId = Field(description="who answered")
    reference: TeacherId | None = Field(default=None, description="the reference, if it was asked")
    tokenizer: str = Field(description="digest of vocabulary, merges and special tokens")
    sets: list[TokenLogprobsSet] = Field(description="in the order of the request")
    usage: Usage = Field(description="teacher tokens of this request")
