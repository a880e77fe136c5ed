"""Large replies in pieces: the bytes that pydantic writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.api.chunked_json import CHUNK_BYTES, json_chunks
from pad_wire import LikelihoodReply, SelectionReply, Usage
from pad_wire.scoring import Likelihood, LikelihoodSet, Selection, SelectionSet
from pad_wire.sets import TeacherId

TEACHER = TeacherId(model='a "teacher"', fingerprint="0" * 32)
USAGE = Usage(prompt_tokens=1, response_tokens=2, question_tokens=0, total_tokens=3)

log_probs = st.lists(st.floats(-1e6, 0), min_size=1, max_size=5)
responses = st.builds(
    lambda values, per_token, cut: Likelihood(
        log_likelihood=sum(values),
        tokens=len(values),
        mean_log_likelihood=sum(values) / len(values),
        token_log_likelihoods=values if per_token else None,
        truncated=cut,
    ),
    log_probs,
    st.booleans(),
    st.sampled_from([None, True]),
)
sets = st.builds(lambda id, each: LikelihoodSet(id=id, responses=each), st.text(), st.lists(responses, max_size=70))


@given(st.lists(sets, max_size=4))
def test_chunks_are_what_pydantic_writes_whole(scored: list[LikelihoodSet]) -> None:
    reply = LikelihoodReply(teacher=TEACHER, sets=scored, usage=USAGE)
    assert b"".join(json_chunks(reply)) == reply.model_dump_json(exclude_none=True).encode()


def test_numbers_after_a_list_are_written_too() -> None:
    one = SelectionSet(id="é", responses=[Selection(selection_probability=1e-300)] * 130, label_mass=0.5)
    reply = SelectionReply(teacher=TEACHER, sets=[one, one], usage=USAGE)
    assert b"".join(json_chunks(reply)) == reply.model_dump_json(exclude_none=True).encode()


@pytest.mark.parametrize(("n", "tokens"), [(1024, 1), (2, 20_000)])
def test_no_chunk_is_much_larger_than_the_limit(n: int, tokens: int) -> None:
    values = [-0.123456789] * tokens
    one = Likelihood(log_likelihood=-1, tokens=tokens, mean_log_likelihood=-1, token_log_likelihoods=values)
    reply = LikelihoodReply(teacher=TEACHER, sets=[LikelihoodSet(id="0", responses=[one] * 8)] * n, usage=USAGE)
    largest = max(map(len, json_chunks(reply)))
    assert largest <= CHUNK_BYTES + len(one.model_dump_json())
