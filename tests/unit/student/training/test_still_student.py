"""A run that changes nothing says so while it runs, and in its report."""

from pathlib import Path

import pytest

from pad_student.evaluation.report.collect import collect
from support.student_runs import scored_sets, trainer


def test_a_run_at_rate_zero_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = trainer(tmp_path, dataset=scored_sets(count=3), max_steps=4)
    made.args.learning_rate = 0.0  # as an optimiser or a schedule of one's own may have it
    made.train()
    assert caplog.text.count("The learning rate has been 0 since the start") == 1
    assert [text for text in collect(tmp_path).warnings if "learning rate has been 0" in text]


def test_a_run_at_a_rate_far_too_small_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pad_student.preference.stillness.STILL_STEPS", 5)
    trainer(
        tmp_path, dataset=scored_sets(count=3), learning_rate=1e-12, max_steps=6, lr_scheduler_type="constant"
    ).train()
    assert caplog.text.count("The loss has not moved") == 1


def test_a_short_run_that_learns_does_not_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pad_student.preference.stillness.STILL_STEPS", 5)
    trainer(tmp_path, dataset=scored_sets(count=3), learning_rate=1e-3, max_steps=6).train()
    assert "has not moved" not in caplog.text
