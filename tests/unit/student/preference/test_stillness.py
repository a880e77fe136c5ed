"""A loss that does not move is told with its reason; noise, a warm-up and a short run are no such loss."""

import random
from collections.abc import Iterable

from pad_student.preference.diagnostics import SignalMonitor
from pad_student.preference.stillness import STILL_STEPS


def said(losses: Iterable[float], rates: Iterable[float] | None = None) -> list[str]:
    monitor = SignalMonitor(window=3)
    each_rate = iter(rates) if rates is not None else None
    return [
        message
        for loss in losses
        for message in monitor.update({"learning_rate": next(each_rate)} if each_rate else {}, loss, 1.0)
    ]


def noisy(steps: int, seed: int, fall: float = 0.0, noise: float = 0.1) -> list[float]:
    draw = random.Random(seed)
    return [0.3 * (1 - fall * step / steps) * (1 + draw.gauss(0, noise)) for step in range(steps)]


def test_a_loss_that_stays_is_told_once_with_the_option() -> None:
    (message,) = said(noisy(600, seed=0), [1e-12] * 600)
    assert "The loss has not moved" in message
    assert "Raise learning_rate (now 1e-12)" in message


def test_a_still_loss_without_noise_is_told_after_enough_steps() -> None:
    assert said([0.3] * (STILL_STEPS - 1)) == []
    assert len(said([0.3] * STILL_STEPS)) == 1


def test_a_rate_of_zero_is_told_within_three_steps() -> None:
    (message,) = said([0.3, 0.2, 0.4], [0.0] * 3)
    assert "learning rate has been 0 since the start" in message


def test_a_schedule_that_begins_and_ends_at_zero_is_no_zero_rate() -> None:
    assert said(noisy(8, seed=0), [0.0, 1e-6, 2e-6, 1e-6, 5e-7, 0.0, 0.0, 0.0]) == []


def test_noise_in_a_short_run_is_no_still_loss() -> None:
    for seed in range(50):
        assert said(noisy(STILL_STEPS + 20, seed, noise=0.15)) == []


def test_a_loss_that_falls_is_never_told() -> None:
    for seed in range(20):
        assert said(noisy(600, seed, fall=0.2)) == []


def test_steps_of_a_warm_up_do_not_count() -> None:
    rising = [step * 1e-8 for step in range(STILL_STEPS + 50)]
    assert said([0.3] * len(rising), rising) == []
