"""Token budgets a minute and quotas a day."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_teacher.admission.budgets import Budgets, Clocks
from pad_teacher.admission.keys import NO_LIMITS, KeyLimits
from pad_teacher.admission.usage_file import FILE, UsageFile, UsageFileError
from pad_teacher.errors import Refusal

TODAY = "2024-10-04"
NOON = 20_000 * 86_400 + 12 * 3600.0
MINUTE = KeyLimits(tokens_per_minute=600)
DAY = KeyLimits(tokens_per_day=1000)


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def at(now: float = NOON) -> Clocks:
    """Clocks that stand still."""
    return Clocks(Clock(now), Clock(now))


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
    budgets = Budgets(clocks=Clocks(clock, clock))
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
    budgets = Budgets(clocks=Clocks(clock, clock))
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
    budgets = Budgets(clocks=Clocks(clock, clock))
    budgets.take("lab", DAY, 990)
    refusal = refused(budgets, DAY, 11)
    assert (refusal.status, refusal.detail.code, refusal.detail.retryable) == (429, "quota_exceeded", False)
    assert refusal.retry_after_s == 12 * 3600
    budgets.take("lab", DAY, 10)
    with pytest.raises(Refusal):
        budgets.refuse_if_short("lab", DAY)
    clock.now += 12 * 3600
    budgets.refuse_if_short("lab", DAY)
    budgets.take("lab", DAY, 1000)


def test_a_spent_minute_is_seen_before_anything_is_read() -> None:
    clock = Clock()
    budgets = Budgets(clocks=Clocks(clock, clock))
    budgets.refuse_if_short("lab", MINUTE)
    budgets.take("lab", MINUTE, 599)
    budgets.refuse_if_short("lab", MINUTE)  # one token is left
    budgets.take("lab", MINUTE, 1)
    with pytest.raises(Refusal) as caught:
        budgets.refuse_if_short("lab", MINUTE)
    assert (caught.value.detail.code, caught.value.retry_after_s) == ("budget_exceeded", 1)
    clock.now += 0.1
    budgets.refuse_if_short("lab", MINUTE)


def test_dropped_tokens_return_to_the_minute_and_their_day() -> None:
    clock = Clock()
    budgets, limits = Budgets(clocks=Clocks(clock, clock)), KeyLimits(tokens_per_minute=600, tokens_per_day=1000)
    day = budgets.take("lab", limits, 600)
    budgets.give_back("lab", 500, day)
    left = budgets.usage("lab", limits)
    assert (left.left_of_minute, left.left_of_day, left.tokens_today) == (500, 900, 100)
    clock.now += 86_400
    budgets.take("lab", limits, 10)
    budgets.give_back("lab", 100, day)
    assert budgets.usage("lab", limits).tokens_today == 10
    assert sum(budgets.totals().values()) == 10


def test_a_refused_request_costs_nothing() -> None:
    budgets, limits = Budgets(clocks=at()), KeyLimits(tokens_per_minute=600, tokens_per_day=700)
    budgets.take("lab", limits, 500)
    for _ in range(3):
        refused(budgets, limits, 150)
        refused(budgets, limits, 300)
    assert budgets.usage("lab", limits).tokens_today == 500


def test_limits_that_change_hold_from_the_next_request_on() -> None:
    budgets = Budgets(clocks=at())
    budgets.take("lab", NO_LIMITS, 5000)
    assert refused(budgets, DAY, 1).detail.code == "quota_exceeded"
    budgets.take("lab", MINUTE, 600)
    assert refused(budgets, KeyLimits(tokens_per_minute=60_000), 1).retry_after_s == 1
    budgets.take("lab", NO_LIMITS, 5000)


def test_keys_do_not_share_a_budget() -> None:
    budgets = Budgets(clocks=at())
    budgets.take("one", MINUTE, 600)
    budgets.take("two", MINUTE, 600)


def test_a_days_use_outlives_the_process_and_two_of_them_add_up(tmp_path: Path) -> None:
    for _ in range(2):
        file = UsageFile(tmp_path / "new", TODAY)
        budgets = Budgets(file.used, at())
        budgets.take("lab", DAY, 200)
        file.write(budgets.totals())
        budgets.take("lab", DAY, 100)
        file.write(budgets.totals())
    used = UsageFile(tmp_path / "new", TODAY).used
    assert used == {("lab", TODAY): 600}
    assert refused(Budgets(used, at()), DAY, 401).detail.code == "quota_exceeded"
    assert UsageFile(tmp_path / "new", "2024-10-05").used == {}
    Budgets(used, at(NOON + 86_400)).take("lab", DAY, 1000)


@pytest.mark.parametrize("how", ["moved", "emptied", "replaced"])
def test_a_usage_file_that_is_lost_is_written_anew(tmp_path: Path, how: str) -> None:
    before = UsageFile(tmp_path, TODAY)
    before.write({("lab", TODAY): 40})
    file, path = UsageFile(tmp_path, TODAY), tmp_path / FILE
    file.write({("lab", TODAY): 2})
    assert not file.is_another
    match how:
        case "moved":
            path.rename(tmp_path / "aside")
        case "replaced":
            path.rename(tmp_path / "aside")
            path.write_bytes(b"")
        case _:
            path.write_bytes(b"")
    assert file.is_another == (how != "emptied")
    file.write({("lab", TODAY): 3})
    assert UsageFile(tmp_path, TODAY).used == {("lab", TODAY): 43}


def test_use_kept_by_version_0_1_still_counts(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as old, old:
        old.execute("CREATE TABLE day_tokens (key TEXT, day TEXT, tokens INTEGER NOT NULL, PRIMARY KEY (key, day))")
        old.execute("INSERT INTO day_tokens VALUES ('lab', ?, 56)", (TODAY,))
    for _ in range(2):
        assert UsageFile(tmp_path, TODAY).used == {("lab", TODAY): 56}


def test_a_clock_set_back_over_midnight_gives_no_second_quota() -> None:
    wall, steady = Clock(), Clock()
    budgets, limits = Budgets(clocks=Clocks(wall, steady)), KeyLimits(tokens_per_minute=600, tokens_per_day=1000)
    for _ in range(6):
        for day in (NOON, NOON + 86_400):
            wall.now = day
            while True:
                try:
                    budgets.take("lab", limits, 100)
                except Refusal as refusal:
                    if refusal.detail.code == "quota_exceeded":
                        break
                    steady.now += 60
    assert Counter(budgets.totals()).total() == 2000


def test_a_clock_that_is_set_leaves_the_minute_as_it_was() -> None:
    wall, steady = Clock(), Clock()
    budgets = Budgets(clocks=Clocks(wall, steady))
    budgets.take("lab", MINUTE, 600)
    for wall.now in (NOON + 3600, NOON - 3600):
        assert refused(budgets, MINUTE, 10).detail.code == "budget_exceeded"
    steady.now += 1
    budgets.take("lab", MINUTE, 10)


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_a_usage_file_that_cannot_be_kept_is_one_line(tmp_path: Path, content: Any) -> None:
    place = tmp_path / "data"
    if content is None:
        place.write_text("a file")
    else:
        place.mkdir()
        (place / FILE).write_bytes(content)
    with pytest.raises(UsageFileError, match="data") as caught:
        UsageFile(place, TODAY)
    assert "\n" not in str(caught.value)
