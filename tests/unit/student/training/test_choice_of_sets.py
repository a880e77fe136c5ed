"""What a micro-batch holds about the teacher's choice and about likelihoods after an empty request."""

from pathlib import Path

import pytest

from pad_student.errors import DatasetError, RewardError
from pad_student.training.batches import batch_of
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.student_runs import RuleTeacher, scored_sets, trainer

ENCODER = ChatEncoder.of(byte_tokenizer())


def with_changes(
    scored: ScoredSet, disagreement: float | None, chosen: list[float], unconditional: float
) -> ScoredSet:
    responses = [
        response.model_copy(update={"selection_probability": p, "unconditional_log_likelihood": unconditional})
        for response, p in zip(scored.responses, chosen, strict=True)
    ]
    return scored.model_copy(update={"responses": responses, "order_disagreement": disagreement})


def test_spread_is_the_total_variation_from_equal_choice() -> None:
    first, second = scored_sets(n=4, count=2)
    sets = [with_changes(first, 0.4, [0.25] * 4, -7), with_changes(second, 0.2, [0.7, 0.1, 0.1, 0.1], -7)]
    batch = batch_of(sets, ENCODER, alpha=0.5)
    assert batch["selection_spread"].tolist() == pytest.approx([0, 0.45])
    assert batch["order_disagreement"].tolist() == pytest.approx([0.4, 0.2])


def test_pairwise_choice_is_brought_to_one_scale() -> None:
    (one,) = scored_sets(n=4, count=1)
    pairs = with_changes(one, 0.1, [1.0, 1 / 3, 1 / 3, 1 / 3], -7)  # they sum to n / 2
    assert batch_of([pairs], ENCODER, alpha=0.5)["selection_spread"].item() == pytest.approx(0.25)


def test_without_disagreement_in_all_sets_there_is_none() -> None:
    first, second = scored_sets(n=4, count=2)
    sets = [with_changes(first, 0.4, [0.25] * 4, -7), with_changes(second, None, [0.25] * 4, -7)]
    assert "order_disagreement" not in batch_of(sets, ENCODER, alpha=0.5)


def test_relative_rewards_are_those_of_the_scores() -> None:
    (one,) = scored_sets(n=2, count=1)
    changed = with_changes(one, None, [0.5, 0.5], -10.0)
    rewards = batch_of([changed], ENCODER, alpha=0, normalization="relative")["rewards_teacher"][0].tolist()
    assert rewards == pytest.approx([(r.log_likelihood + 10) / r.tokens for r in one.responses])
    with pytest.raises(RewardError, match="--unconditional"):
        batch_of([one], ENCODER, alpha=0, normalization="relative")


def test_a_relative_run_asks_for_the_empty_request(tmp_path: Path) -> None:
    asked = []

    class Watched(RuleTeacher):
        def score_stream(self, sets, **options):  # type: ignore[no-untyped-def]
            asked.append(options["options"].unconditional)
            for each in super().score_stream(sets, **options):
                yield with_changes(each, 0.1, [r.selection_probability for r in each.responses], -9.0)

    trainer(tmp_path, Watched(), normalization="relative", max_steps=1).train()
    assert asked
    assert all(asked)


def test_spread_is_over_texts_and_not_over_copies() -> None:
    (one,) = scored_sets(n=4, count=1)
    texts = [each.model_copy(update={"text": text}) for each, text in zip(one.responses, "aaab", strict=True)]
    copies = with_changes(one.model_copy(update={"responses": texts}), 0.1, [0.8, 0.8, 0.8, 0.2], -7)
    assert batch_of([copies], ENCODER, alpha=0.5)["selection_spread"].tolist() == pytest.approx([0.3])


def test_a_set_that_was_not_asked_takes_no_part_in_the_choice() -> None:
    first, second = scored_sets(n=4, count=2)
    asked = with_changes(first, 0.4, [0.7, 0.1, 0.1, 0.1], -7).model_copy(update={"orders_asked": 4})
    unasked = with_changes(second, None, [1.0] * 4, -7).model_copy(update={"orders_asked": 0, "label_mass": None})
    batch = batch_of([asked, unasked], ENCODER, alpha=0.5)
    found = {name: batch[name].tolist() for name in ("label_mass", "order_disagreement", "orders_asked")}
    assert found == {name: pytest.approx([value]) for name, value in zip(found, (0.9, 0.4, 4), strict=True)}


def test_scored_sets_of_one_text_are_not_trained_on(tmp_path: Path) -> None:
    sets = scored_sets(n=4, count=3)
    same = [each.model_copy(update={"text": "a", "finished": True}) for each in sets[1].responses]
    sets[1] = sets[1].model_copy(update={"responses": same})
    assert len(trainer(tmp_path, dataset=sets).train_dataset) == 2
    assert len(trainer(tmp_path, dataset=sets, one_text="keep").train_dataset) == 3
    with pytest.raises(DatasetError, match="each set of train_dataset holds one text"):
        trainer(tmp_path, dataset=[sets[1]])
