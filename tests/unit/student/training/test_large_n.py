"""More responses than exact sums can take: what still trains, what refuses, and that its metrics are right."""

import json
from math import isfinite, lgamma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pad_student.errors import ConfigError
from pad_student.evaluation.report.charts import charts
from pad_student.evaluation.report.collect import collect
from pad_student.evaluation.report.page import build
from pad_student.preference.diagnostics import SignalMonitor
from pad_student.preference.losses import EXACT_LOSSES, LOSSES
from pad_student.preference.metrics import preference_metrics
from pad_student.preference.plackett_luce import entropy, estimated_entropy
from pad_student.storage.run_directory import newest_whole
from support.fake_run import fake_run, metrics
from support.student_runs import RuleTeacher, config, scored_sets, trainer, weights
from support.student_runs import metrics as recorded

TOLERANCE = 0.005  # of ln n!


def scores(n: int, spread: float, seed: int = 0) -> torch.Tensor:
    return spread * torch.randn(4, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain_monte_carlo_entropy(scores_N: np.ndarray, samples: int = 4_000) -> float:
    """E[-ln P(τ)] by numpy, in float64: no code of the project's."""
    noisy = scores_N + np.random.default_rng(1).gumbel(size=(samples, len(scores_N)))
    ranked = scores_N[np.argsort(-noisy, axis=1)]
    remaining = np.logaddexp.accumulate(ranked[:, ::-1], axis=1)[:, ::-1]
    return float((remaining - ranked).sum(1).mean())


@pytest.mark.parametrize("n", [17, 64])
@pytest.mark.parametrize("spread", [0.2, 3.0, 12.0])
def test_the_estimated_entropy_equals_a_float64_simulation(n: int, spread: float) -> None:
    given = scores(n, spread)
    expected = [plain_monte_carlo_entropy(row.numpy()) for row in given]
    assert estimated_entropy(given).tolist() == pytest.approx(expected, abs=TOLERANCE * lgamma(n + 1))


@pytest.mark.parametrize("n", [8, 16])
@pytest.mark.parametrize("spread", [0.0, 0.2, 3.0, 12.0])
def test_the_estimated_entropy_equals_the_exact_sum(n: int, spread: float) -> None:
    given = scores(n, spread)
    exact = entropy(given)
    assert estimated_entropy(given).tolist() == pytest.approx(exact.tolist(), abs=TOLERANCE * lgamma(n + 1))
    assert estimated_entropy(given, 4_000).tolist() == pytest.approx(exact.tolist(), abs=1e-3 * lgamma(n + 1))


def test_the_estimated_entropy_is_exact_at_both_ends_and_for_two() -> None:
    far = torch.arange(64.0).unsqueeze(0)
    assert estimated_entropy(torch.zeros(1, 64)).item() == pytest.approx(lgamma(65), rel=1e-6)
    assert estimated_entropy(1e4 * far).item() == 0
    assert estimated_entropy(100 * far).item() == pytest.approx(0, abs=1e-6)
    pair = scores(2, 3.0)
    assert torch.allclose(estimated_entropy(pair), entropy(pair))


def test_the_estimated_entropy_leaves_the_random_state_alone() -> None:
    given = scores(40, 3.0).float()
    state = torch.get_rng_state()
    first = estimated_entropy(given)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(estimated_entropy(given), first)
    assert torch.equal(estimated_entropy(given[2:3]), first[2:3]), "not on the batch it comes in"
    assert torch.equal(estimated_entropy(given.flip(1)), first), "nor on the order of the responses"


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.tensor([[0.0, float("nan")]])])
def test_the_estimated_entropy_refuses_what_the_exact_one_does(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="scores must be"):
        estimated_entropy(wrong)


def test_it_refuses_to_estimate_from_no_samples() -> None:
    with pytest.raises(ValueError, match="samples must be positive"):
        estimated_entropy(torch.zeros(1, 3), 0)


def test_64_responses_have_a_finite_loss_and_the_right_metrics(tmp_path: Path) -> None:
    trainer(
        tmp_path,
        RuleTeacher(),
        n=64,
        form="pairwise",
        beta_teacher=0.05,
        beta_student=0.1,
        per_device_train_batch_size=1,
        max_steps=1,
    ).train()
    (line,) = recorded(tmp_path)[:1]
    assert 0.01 < line["loss"] < 0.68
    assert 1e-3 < line["grad_norm"] < 10
    assert line["entropy/teacher"] == pytest.approx(_teacher_entropy(tmp_path), abs=TOLERANCE)
    assert 0.5 < line["entropy/student"] < 1
    assert all(isfinite(line[f"mean_log_likelihood/rank_{rank}"]) for rank in range(1, 65))
    assert "mean_log_likelihood/rank_65" not in line


def _teacher_entropy(folder: Path) -> float:
    """Of the one set that the first step was scored for, by simulation from the rewards as PAD defines them."""
    (text,) = (folder / "rounds" / "000000" / "scored.jsonl").read_text().splitlines()
    responses = json.loads(text)["responses"]
    rewards = [0.2 * r["mean_log_likelihood"] + 0.8 * np.log(r["selection_probability"]) for r in responses]
    return plain_monte_carlo_entropy(0.05 * np.array(rewards)) / lgamma(65)


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - set(EXACT_LOSSES)))
def test_every_loss_without_exact_sums_takes_more_than_sixteen(tmp_path: Path, loss: str) -> None:
    sets = scored_sets(n=24, count=2)
    small: dict[str, Any] = {"n": 24, "loss": loss, "max_steps": 2, "per_device_train_batch_size": 1}
    trainer(tmp_path, dataset=sets, **small).train()
    for line in recorded(tmp_path)[:2]:
        assert isfinite(line["loss"])
        assert isfinite(line["entropy/teacher"])


def test_a_killed_run_with_estimated_loss_repeats_exactly(tmp_path: Path) -> None:
    how: dict[str, Any] = {"n": 20, "per_device_train_batch_size": 1, "max_steps": 4, "save_total_limit": None}
    whole = trainer(tmp_path / "whole", RuleTeacher(), **how)
    whole.train()
    again = trainer(tmp_path / "whole", RuleTeacher(patience=0), **how)
    lines = recorded(tmp_path / "whole")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(weights(whole), weights(again))
    assert recorded(tmp_path / "whole") == lines
    assert newest_whole(tmp_path / "whole") == tmp_path / "whole" / "checkpoint-4"


@pytest.mark.parametrize("loss", EXACT_LOSSES)
def test_a_loss_of_exact_sums_refuses_more_than_sixteen(tmp_path: Path, loss: str) -> None:
    config(tmp_path, n=16, loss=loss)
    config(tmp_path, n=32, parts=2, loss=loss)
    with pytest.raises(ConfigError, match=f"{loss} compares at most 16 responses at once, not 17: raise parts.*ppd"):
        config(tmp_path, n=17, loss=loss)


def test_no_loss_takes_more_than_estimates_are_tested_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ppd compares at most 64 responses at once, not 65: raise parts$"):
        config(tmp_path, n=65)


def test_too_many_listwise_options_are_refused_before_sampling(
    tmp_path: Path,
) -> None:
    teacher = RuleTeacher()
    with pytest.raises(ConfigError, match=r"shows 27 responses, and there are 26 letters: .*pairwise, alpha to 0"):
        trainer(tmp_path, teacher, n=27)
    assert not teacher.scored
    for allowed in ({"n": 26}, {"form": "pairwise"}, {"alpha": 0.0}, {"n": 54, "parts": 3}):
        config(tmp_path, **{"n": 27, **allowed}).check_question()


def test_scored_sets_need_no_letters(tmp_path: Path) -> None:
    assert trainer(tmp_path, dataset=scored_sets(n=27, count=3), n=27).args.part_size == 27


def test_the_watch_judges_64_ranks_as_it_judges_four() -> None:
    monitor, said = SignalMonitor(window=3), []
    given = scores(64, 3.0)
    for step in range(12):
        said += monitor.update(preference_metrics(given, given, -0.1 * step - given.exp()), 0.2, 1.0)
    (message,) = said
    assert "likelihood displacement" in message


def test_the_report_draws_some_of_64_ranks_and_tells_all_of_them(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    ranks = {f"mean_log_likelihood/rank_{rank}": -float(rank) for rank in range(1, 65)}
    (run / "metrics.jsonl").write_text("".join(json.dumps(metrics(k) | ranks) + "\n" for k in (1, 2)))
    found = collect(run)
    (chart,) = (each for each in charts(found) if each.holds == ("mean_log_likelihood/",))
    drawn = [int(curve.name.rpartition("_")[2]) for curve in chart.curves(found)]
    assert drawn == [1, 10, 19, 28, 37, 46, 55, 64]
    page = build(found)
    assert all(f"mean_log_likelihood/rank_{rank}<" in page for rank in range(1, 65))
