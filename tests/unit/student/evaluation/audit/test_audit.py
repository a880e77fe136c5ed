"""The audit's counts against numbers worked out by hand, and its advice on signals made to be good or bad."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pad_student.errors import EvaluationError
from pad_student.evaluation.audit.audit import Audit, audit
from pad_student.evaluation.audit.known_sets import KnownSet, shipped_sets, users_sets
from pad_student.evaluation.audit.recommend import BETAS, ENTROPY_BAND, beta_for, median_entropy, plausible
from pad_student.evaluation.audit.statistics import correlation_within_sets, paired_gain, same_order, win_rate
from pad_student.evaluation.audit.words import report, settings_yaml
from pad_wire import SampledSet
from pad_wire.scoring import Selection, SelectionSet

KINDS = ("right", "wrong", "identical")


def arrays(*rows: list[float]) -> list[Any]:
    return [np.array(row) for row in rows]


def test_a_win_counts_one_a_tie_one_half_and_a_copy_nothing() -> None:
    found = win_rate(arrays([1, 0, 9], [1, 1, 9], [0, 1, 9]), [KINDS] * 3)
    assert (found.mean, found.first, found.by_kind) == (0.5, 1 / 3, {"wrong": 0.5})
    assert found.low <= found.mean <= found.high


def test_scores_that_always_win_are_above_chance() -> None:
    assert win_rate(arrays(*[[1.0, 0, 1]] * 5), [KINDS] * 5).above_chance


def test_random_scores_are_not_above_chance() -> None:
    scores = list(np.random.default_rng(1).normal(size=(60, 3)))
    assert not win_rate(scores, [KINDS] * 60).above_chance


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_an_error(wrong: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        win_rate(arrays([1, wrong, 0]), [KINDS])


def test_correlation_and_agreement_look_within_sets_only() -> None:
    a, b = arrays([0, 1], [100, 101]), arrays([5, 6], [-5, -4])
    assert correlation_within_sets(a, b) == pytest.approx(1)
    assert same_order(a, b) == 1
    assert same_order(a, [-each for each in b]) == 0
    assert correlation_within_sets(a, arrays([1, 1], [2, 2])) is None


def test_beta_leaves_the_median_entropy_in_its_band() -> None:
    scores = list(0.3 * np.random.default_rng(2).normal(size=(30, 4)))
    low, high = ENTROPY_BAND
    assert low < median_entropy(scores, beta_for(scores)) < high


def test_the_shipped_sets_are_sixty_and_more_of_many_kinds() -> None:
    sets = shipped_sets()
    assert len(sets) >= 60
    assert len({each.set.id for each in sets}) == len(sets)
    assert {kind for each in sets for kind in each.kinds} == {
        *("right", "wrong", "off-topic", "scrambled", "cut", "padded", "flattering", "identical")
    }
    for each in sets:
        texts = {kind: response.text for kind, response in zip(each.kinds, each.set.responses, strict=True)}
        right = texts.pop("right")
        assert texts.pop("identical", right) == right
        assert right not in texts.values()


def test_a_users_set_of_one_response_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text('{"id": "a", "prompt": "p", "responses": ["x", "y"]}\n')
    assert users_sets(path)[0].kinds == ("right", "response 2")
    path.write_text('{"id": "a", "prompt": "p", "responses": ["x"]}\n')
    with pytest.raises(EvaluationError):
        users_sets(path)


class MadeUpTeacher:
    """Knows the right answers as far as it is told to; prefers the first letter by ``bias``."""

    def __init__(
        self, sets: list[KnownSet], likelihood: float, choice: float, bias: float = 0.0, relative: float = 0.0
    ) -> None:
        self.right = {each.set.prompt: each.set.responses[0].text for each in sets}
        self.likelihood_knows, self.choice_knows, self.bias = likelihood, choice, bias
        self.relative_knows = relative
        self.tokens_scored = 0
        self.noise = np.random.default_rng(3)

    def model(self) -> Any:
        return SimpleNamespace(id="made-up", fingerprint="0" * 32)

    def likelihood(self, sets: Iterable[SampledSet], unconditional: bool = False) -> Iterator[Any]:
        for each in sets:
            self.tokens_scored += 130 if unconditional else 100
            answers = [self._scored(each, response.text, unconditional) for response in each.responses]
            yield SimpleNamespace(id=each.id, responses=answers)

    def _scored(self, of: SampledSet, text: str, unconditional: bool) -> Any:
        knows = self.likelihood_knows * (text == self.right[of.prompt])
        mean = -2 + knows + float(self.noise.normal())
        tokens = len(text)
        relative = self.relative_knows * (text == self.right[of.prompt]) + 0.1 * float(self.noise.normal())
        alone = (mean - relative) * tokens if unconditional else None
        return SimpleNamespace(mean_log_likelihood=mean, tokens=tokens, unconditional_log_likelihood=alone)

    def selection(self, sets: Iterable[SampledSet], form: str = "listwise", **_: Any) -> Iterator[SelectionSet]:
        for each in sets:
            self.tokens_scored += 200
            scores = [self.choice_knows * (r.text == self.right[each.prompt]) for r in each.responses]
            if form == "listwise":  # pairs are asked in both orders, which takes the bias out
                scores[0] += self.bias
            chances = np.exp(np.array(scores) + self.noise.normal(size=len(scores)) * 0.1)
            chosen = [Selection(selection_probability=float(value)) for value in chances / chances.sum()]
            yield SelectionSet(id=each.id, responses=chosen, label_mass=0.98)


def audited(likelihood: float, choice: float, bias: float = 0.0, relative: float = 0.0, seconds: float = 60) -> Audit:
    sets = shipped_sets()
    teacher: Any = MadeUpTeacher(sets, likelihood, choice, bias, relative)
    return audit(teacher, sets, seconds)


def test_choice_at_chance_is_not_recommended() -> None:
    found = audited(likelihood=3, choice=0)
    assert found.recommendation.settings["alpha"] == 0
    assert "at chance" in report([found])
    assert settings_yaml(found).startswith("# from an audit of made-up")


def test_choice_that_knows_better_is_recommended() -> None:
    found = audited(likelihood=0.5, choice=5)
    assert found.recommendation.settings["alpha"] == 1
    assert found.recommendation.win_rate.mean == 1


def test_relative_likelihood_that_knows_better_is_recommended() -> None:
    found = audited(likelihood=0.5, choice=0, relative=3)
    assert found.recommendation.settings["alpha"] == 0
    assert found.recommendation.settings["normalization"] == "relative"
    assert "unconditional_weight" in found.recommendation.settings
    relative = next(each for each in found.judged if each.signal.name == "relative likelihood, weight 1")
    assert relative.win_rate.mean == 1
    assert relative.signal.tokens_per_set == 130


def test_a_signal_no_better_than_likelihood_is_not_recommended() -> None:
    found = audited(likelihood=9, choice=5, relative=3)
    assert found.recommendation.settings == {
        "alpha": 0.0,
        "beta_teacher": found.recommendation.settings["beta_teacher"],
    }


def test_a_gain_over_likelihood_is_paired_by_set() -> None:
    kinds = [("right", "wrong")] * 4
    found = paired_gain(arrays(*[[1.0, 0]] * 4), arrays([1, 0], [0, 1], [1, 0], [0, 1]), kinds)
    assert found.mean == 0.5
    assert 0 <= found.low <= 0.5 <= found.high <= 1
    same = paired_gain(arrays(*[[1.0, 0]] * 4), arrays(*[[2.0, 1]] * 4), kinds)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("spread", [1e-4, 1e4])
def test_beta_stays_in_its_bounds_and_says_so(spread: float) -> None:
    scores = [spread * each for each in np.random.default_rng(4).normal(size=(20, 2))]
    assert beta_for(scores) in BETAS


def test_beta_looks_at_plausible_responses_alone() -> None:
    kinds = [("right", "wrong", "scrambled", "identical")]
    assert [each.tolist() for each in plausible(arrays([3, 2, -9, 3]), kinds)] == [[3, 2]]
    assert [each.tolist() for each in plausible(arrays([3, 2]), [("right", "response 2")])] == [[3, 2]]


def test_position_bias_shows_by_letter_and_between_orders() -> None:
    found = audited(likelihood=3, choice=0, bias=3)
    letters = found.choice["mean_probability_by_letter"]
    assert letters[0] > 0.8
    assert found.choice["order_disagreement"] > 0.8
    assert found.choice["same_pick_in_all_orders"] == 0


def test_always_picking_the_first_letter_is_chance() -> None:
    found = audited(likelihood=3, choice=0, bias=9)
    single = next(each for each in found.judged if each.signal.name == "choice listwise single")
    assert not single.win_rate.above_chance
    assert found.recommendation.settings["alpha"] == 0


def test_without_time_choice_is_asked_about_a_few_sets() -> None:
    found = audited(likelihood=3, choice=5, seconds=0)
    assert found.choice["sets"] == 12
    assert found.likelihood["sets"] == len(shipped_sets())
