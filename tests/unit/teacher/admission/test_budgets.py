"""Token budgets a minute and quotas a day."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.admission.budgets import Budgets
from pad_teacher.admission.keys import NO_LIMITS, KeyLimits
from pad_teacher.admission.usage_file import FILE, UsageFile, UsageFileError
from pad_teacher.errors import Refusal

NOON = 20_000 * 86_400 + 12 * 3600.0
MINUTE = KeyLimits(tokens_per_minute=600)
DAY = KeyLimits(tokens_per_day=1000)


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def refused(budgets: Budgets, limits: KeyLimits, cost: int) -> Refusal:
    with pytest.raises(Refusal) as caught:
        budgets.take("lab", limits, cost)
    return caught.value


def wait_of(budgets: Budgets, limits: KeyLimits, cost: int) -> int:
    """The seconds for which ``cost`` is refused, or 0 where it was taken."""
    try:
        budgets.take("lab", limits, cost)
    except Refusal as refusal:
        return refusal.retry_after_s or -1
    return 0


def test_a_full_bucket_may_be_used_in_one_and_then_refills() -> None:
    clock = Clock()
    budgets = Budgets(clock=clock)
    budgets.take("lab", MINUTE, 600)
    refusal = refused(budgets, MINUTE, 100)
    assert (refusal.status, refusal.detail.code, refusal.detail.retryable) == (429, "budget_exceeded", True)
    assert refusal.retry_after_s == 10
    clock.now += 9.9
    refused(budgets, MINUTE, 100)
    clock.now = NOON + 10
    budgets.take("lab", MINUTE, 100)
    refused(budgets, MINUTE, 1)


@given(st.integers(1, 10_000), st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 100)), max_size=30))
def test_waiting_as_long_as_a_refusal_tells_always_succeeds(
    per_minute: int, requests: list[tuple[int, float]]
) -> None:
    """And the wait is never more than a minute."""
    clock, limits = Clock(), KeyLimits(tokens_per_minute=per_minute)
    budgets = Budgets(clock=clock)
    used, began = 0, clock.now
    for cost, pause in requests:
        cost = min(cost, per_minute)
        clock.now += pause
        wait = wait_of(budgets, limits, cost)
        assert 0 <= wait <= 60
        if wait:
            clock.now += wait
            budgets.take("lab", limits, cost)
        used += cost
        assert used <= per_minute * (1 + (clock.now - began) / 60) + 1


@pytest.mark.parametrize(("limits", "named"), [(MINUTE, "600 a minute"), (DAY, "1000 a day")])
def test_a_request_above_the_whole_limit_is_not_retryable(limits: KeyLimits, named: str) -> None:
    refusal = refused(Budgets(), limits, 1001)
    assert (refusal.status, refusal.detail.code, refusal.detail.retryable) == (422, "too_long", False)
    assert named in refusal.detail.message


def test_a_days_quota_is_whole_again_at_midnight_utc() -> None:
    clock = Clock()
    budgets = Budgets(clock=clock)
    budgets.take("lab", DAY, 990)
    refusal = refused(budgets, DAY, 11)
    assert (refusal.status, refusal.detail.code, refusal.detail.retryable) == (429, "quota_exceeded", False)
    assert refusal.retry_after_s == 12 * 3600
    budgets.take("lab", DAY, 10)
    with pytest.raises(Refusal):
        budgets.refuse_if_spent("lab", DAY)
    clock.now += 12 * 3600
    budgets.refuse_if_spent("lab", DAY)
    budgets.take("lab", DAY, 1000)


def test_dropped_tokens_return_to_the_minute_and_their_day() -> None:
    clock = Clock()
    budgets, limits = Budgets(clock=clock), KeyLimits(tokens_per_minute=600, tokens_per_day=1000)
    day = budgets.take("lab", limits, 600)
    budgets.give_back("lab", 500, day)
    left = budgets.usage("lab", limits)
    assert (left.left_of_minute, left.left_of_day, left.tokens_today) == (500, 900, 100)
    clock.now += 86_400
    budgets.take("lab", limits, 10)
    budgets.give_back("lab", 100, day)
    assert budgets.usage("lab", limits).tokens_today == 10
    assert sum(budgets.unsaved().values()) == 10


def test_a_refused_request_costs_nothing() -> None:
    budgets, limits = Budgets(clock=Clock()), KeyLimits(tokens_per_minute=600, tokens_per_day=700)
    budgets.take("lab", limits, 500)
    for _ in range(3):
        refused(budgets, limits, 150)
        refused(budgets, limits, 300)
    assert budgets.usage("lab", limits).tokens_today == 500


def test_limits_that_change_hold_from_the_next_request_on() -> None:
    budgets = Budgets(clock=Clock())
    budgets.take("lab", NO_LIMITS, 5000)
    assert refused(budgets, DAY, 1).detail.code == "quota_exceeded"
    budgets.take("lab", MINUTE, 600)
    assert refused(budgets, KeyLimits(tokens_per_minute=60_000), 1).retry_after_s == 1
    budgets.take("lab", NO_LIMITS, 5000)


def test_keys_do_not_share_a_budget() -> None:
    budgets = Budgets(clock=Clock())
    budgets.take("one", MINUTE, 600)
    budgets.take("two", MINUTE, 600)


def test_a_days_use_outlives_the_process_and_two_of_them_add_up(tmp_path: Path) -> None:
    for _ in range(2):
        budgets = Budgets(UsageFile(tmp_path / "new").used("2024-10-04"), Clock())
        budgets.take("lab", DAY, 300)
        UsageFile(tmp_path / "new").add(budgets.unsaved())
    used = UsageFile(tmp_path / "new").used("2024-10-04")
    assert used == {("lab", "2024-10-04"): 600}
    assert refused(Budgets(used, Clock()), DAY, 401).detail.code == "quota_exceeded"
    assert UsageFile(tmp_path / "new").used("2024-10-05") == {}
    Budgets(used, Clock(NOON + 86_400)).take("lab", DAY, 1000)


def test_what_could_not_be_saved_is_saved_later() -> None:
    budgets = Budgets(clock=Clock())
    budgets.take("lab", DAY, 300)
    lost = budgets.unsaved()
    budgets.take("lab", DAY, 20)
    budgets.save_later(lost)
    assert Counter(budgets.unsaved()).total() == 320


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_a_usage_file_that_cannot_be_kept_is_one_line(tmp_path: Path, content: Any) -> None:
    place = tmp_path / "data"
    if content is None:
        place.write_text("a file")
    else:
        place.mkdir()
        (place / FILE).write_bytes(content)
    with pytest.raises(UsageFileError, match="data") as caught:
        UsageFile(place)
    assert "\n" not in str(caught.value)
