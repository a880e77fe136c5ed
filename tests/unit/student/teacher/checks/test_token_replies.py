"""Replies with distributions: what can be learnt from passes, and each impossible number is an error by name."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from pad_student.storage.token_tables import decoded
from pad_student.teacher.checks.replies import Untrustworthy
from pad_student.teacher.checks.token_replies import TokenReply, read_token_reply, token_scored_sets
from pad_wire import Response, SampledSet

SETS = [SampledSet(id="s", prompt="which?", responses=[Response(text="ab")])]
METADATA = {
    "model": "m",
    "fingerprint": "f",
    "reference_model": "r",
    "reference_fingerprint": "g",
    "tokenizer": "t",
    "ids": json.dumps(["s"]),
    "responses": "[1]",
    "truncated": "[]",
    "usage": json.dumps({"prompt_tokens": 1, "response_tokens": 2, "question_tokens": 0, "total_tokens": 3}),
}


def reply(**changes: Any) -> TokenReply:
    """Two tokens, two ids named at each; ``changes`` replace tensors."""
    quarter = np.log(0.25)
    named, half = np.full((2, 2), quarter, np.float32), np.full(2, np.log(0.5), np.float32)
    own = np.full(2, quarter, np.float32)
    tensors = {"offsets": np.array([0, 2], np.uint32), "token_ids": np.array([5, 6], np.uint32)}
    tensors |= {"token_logprobs": own, "top_ids": np.array([[5, 6]] * 2, np.uint32), "top_logprobs": named}
    tensors |= {"rest": half, "reference_token_logprobs": own, "reference_logprobs": named, "reference_rest": half}
    tensors |= {name: np.array(value, np.float32) for name, value in changes.items()}
    return read_token_reply(save(tensors, metadata=METADATA))


def joined(asked: TokenReply, *, reference: bool = True) -> Any:
    (each,) = token_scored_sets(SETS, asked, top=2, reference=reference)
    return each


def test_a_token_of_no_probability_among_the_named_passes() -> None:
    """The rest has none if all tokens are named, and a named one has none if the model excludes it."""
    none = [[np.log(0.5), -np.inf]] * 2
    each = joined(reply(top_logprobs=none), reference=False)
    assert decoded(each.token_tables)[0].arrays["top_logprobs"][0, 1] == -np.inf
    joined(reply(top_logprobs=none, reference_logprobs=none))
    halves, nothing = [[np.log(0.5)] * 2] * 2, [-np.inf] * 2
    joined(reply(top_logprobs=halves, rest=nothing, reference_logprobs=halves, reference_rest=nothing))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_logprobs": [-1.0, -np.inf]}, "token_logprobs has -inf, and a scored token"),
        ({"reference_token_logprobs": [-1.0, -np.inf]}, "reference_token_logprobs has -inf"),
        ({"token_logprobs": [-1.0, np.nan]}, "token_logprobs has a value that is no log-probability"),
        ({"rest": [np.inf, -1.0]}, "rest has a value that is no log-probability"),
        ({"rest": [-np.inf] * 2}, "top_logprobs and rest do not add up to 1"),
        ({"top_logprobs": [[np.log(0.5), -np.inf]] * 2}, "top_logprobs and reference_logprobs have -inf for"),
        ({"reference_logprobs": [[np.log(0.5)] * 2] * 2, "reference_rest": [-np.inf] * 2}, "rest and reference_rest"),
    ],
)
def test_an_impossible_number_is_an_error_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Untrustworthy, match=message):
        joined(reply(**changes))
