"""A teacher that only chooses, at the client: what needs more is refused, and the logarithm of votes is their own."""

from math import log
from typing import Any

import pytest

from pad_student.errors import RewardError
from pad_student.teacher.checks.capabilities import checked_model
from pad_student.teacher.client import Teacher, TeacherRefused
from pad_student.teacher.options import ScoreOptions
from pad_wire import Response, SampledSet
from support.fake_teacher import FakeTeacherService

SET = SampledSet(id="s", prompt="hi", responses=[Response(text="a"), Response(text="bb")])


class OnlyChooses(FakeTeacherService):
    """Behind an API: without likelihoods, and with ``chosen`` among each response's numbers."""

    def __init__(self, estimator: str = "votes", **chosen: Any) -> None:
        super().__init__()
        self.estimator, self.chosen = estimator, chosen

    def card(self) -> dict[str, Any]:
        unknown = {"dtype", "end_of_turn"}
        card = {name: value for name, value in super().card().items() if name not in unknown}
        limits = {name: value for name, value in card["limits"].items() if name != "max_context_tokens"}
        return {**card, "capabilities": ["selection"], "estimator": self.estimator, "limits": limits}

    def _set(self, path: str, each: dict[str, Any], unconditional: bool) -> dict[str, Any]:
        made = super()._set("/v1/selection", each, unconditional)
        made["responses"] = [{**one, **self.chosen} for one in made["responses"]]
        return {**made, "orders_asked": 16, "votes": 15, "invalid_votes": 1}


def teacher(fake: FakeTeacherService) -> Teacher:
    return Teacher("http://t.test", transport=fake.transport)


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        (ScoreOptions(), "alpha"),
        (ScoreOptions(alpha=0.8), "alpha is 0.8"),
        (ScoreOptions(alpha=0), "alpha is 0"),
        (ScoreOptions(alpha=1, unconditional=True), "normalization"),
        (ScoreOptions(alpha=1, truncate=True), "truncate"),
        (ScoreOptions(alpha=1, form="pairwise"), "form"),
        (ScoreOptions(token_top=8), "method"),
    ],
)
def test_what_it_cannot_tell_is_refused_by_name(options: ScoreOptions, setting: str) -> None:
    fake = OnlyChooses()
    with teacher(fake) as client, pytest.raises(TeacherRefused, match=setting) as refused:
        checked_model(client, options)
    assert refused.value.code == "unsupported"
    assert not fake.bodies, "before anything is asked"


def test_at_alpha_1_it_is_taken() -> None:
    with teacher(OnlyChooses()) as client:
        assert checked_model(client, ScoreOptions(alpha=1)).estimator == "votes"
    with teacher(OnlyChooses("label_probabilities")) as client:
        checked_model(client, ScoreOptions(alpha=1, form="pairwise"))


def test_an_older_service_can_tell_all() -> None:
    with teacher(FakeTeacherService()) as client:
        checked_model(client, ScoreOptions(alpha=0.8))


def test_the_reward_of_a_vote_is_its_mean_logarithm() -> None:
    fake = OnlyChooses(log_selection_probability=-1.5, selection_interval=[0.1, 0.9])
    with teacher(fake) as client:
        (scored,) = client.score([SET], alpha=1)
    assert fake.bodies[0]["alpha"] == 1
    assert [each.reward for each in scored.responses] == [-1.5, -1.5]
    assert [each.log_likelihood for each in scored.responses] == [None, None]
    assert (scored.votes, scored.invalid_votes) == (15, 1)


def test_the_reward_of_a_label_probability_is_its_logarithm() -> None:
    with teacher(OnlyChooses("label_probabilities")) as client:
        (scored,) = client.score([SET], alpha=1)
    assert [each.reward for each in scored.responses] == pytest.approx([log(2 / 5), log(3 / 5)])


def test_alpha_is_sent_only_where_it_is_1() -> None:
    fake = FakeTeacherService()
    with teacher(fake) as client:
        client.score([SET], alpha=0.8)
    assert "alpha" not in fake.bodies[0]


def test_a_batch_has_the_votes_logarithms_as_rewards() -> None:
    from pad_student.training.batches import batch_of
    from pad_wire.chat import ChatEncoder
    from support.fakes import byte_tokenizer

    with teacher(OnlyChooses(log_selection_probability=-1.5)) as client:
        scored = client.score([SET], alpha=1)
    encoder = ChatEncoder.of(byte_tokenizer())
    assert batch_of(scored, encoder, alpha=1)["rewards_teacher"].tolist() == [[-1.5, -1.5]]
    with pytest.raises(RewardError, match=r"alpha 0\.8 needs log-likelihoods.*set alpha to 1"):
        batch_of(scored, encoder, alpha=0.8)
